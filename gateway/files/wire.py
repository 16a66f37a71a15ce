"""Files and uploads as OpenAI's clients read them."""

from __future__ import annotations

from typing import Any

from ftq.store.gateway.files import File
from ftq.store.gateway.uploads import Part, Upload


def shown(file: File) -> dict[str, Any]:
    expires = {} if file.expires_at is None else {"expires_at": int(file.expires_at)}
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": file.status,
        "status_details": file.status_details,
        **expires,
    }


def shown_upload(upload: Upload, file: File | None = None) -> dict[str, Any]:
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": int(upload.created_at),
        "expires_at": int(upload.expires_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": shown(file) if file else None,
    }


def shown_part(part: Part) -> dict[str, Any]:
    return {
        "id": part.id,
        "object": "upload.part",
        "created_at": int(part.created_at),
        "upload_id": part.upload_id,
    }
