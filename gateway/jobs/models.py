"""/v1/models: the tuned models that a key sees, and the base models that this machine has."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ftq.errors import Refused
from ftq.files.artifact import gguf_name
from gateway import models
from gateway.access import caller_of
from gateway.errors import ApiError
from gateway.files.storage import sees
from gateway.shared import gateway_of
from gateway.wire import sent_again


def listed(request: Request) -> Response:
    """Every model once by each of its names: ft:BASE:ORG:SUFFIX:ID, and its version."""
    tuned = gateway_of(request).client.store.jobs.models(sees(caller_of(request)))
    data = [models.shown_base(name) for name in models.bases()]
    for one in tuned:
        names = (models.tuned_name(one.base, one.suffix, one.run_id), one.version)
        data += [_shown(name, int(one.created_at)) for name in names]
    return JSONResponse({"object": "list", "data": data})


def one(request: Request) -> Response:
    name = request.path_params["model"]
    base = models.base_of(name)
    if base and models.is_here(base):
        return JSONResponse(models.shown_base(name))
    gateway = gateway_of(request)
    run, _, step = models.find_tuned(gateway, caller_of(request), name)
    file = gguf_name(run.spec["quantizations"][0]) if step is None else f"checkpoint-{step}.gguf"
    if not gateway.client.holds(run, file):
        raise models.not_found(name)
    return JSONResponse(_shown(name, models.created_of(run)))


def deleted(request: Request) -> Response:
    """Delete the files of a tuned model, with its checkpoints. Its job stays."""
    gateway, name = gateway_of(request), request.path_params["model"]
    if models.base_of(name):
        raise ApiError(403, f"The model '{name}' is a base model: only your own tuned models can be deleted.")
    try:
        run, _, step = models.find_tuned(gateway, caller_of(request), name)
        is_there = gateway.client.holds(run, gguf_name(run.spec["quantizations"][0]))
    except ApiError:
        is_there = False
    if not is_there:
        if sent_again(request):  # and the answer was lost
            return JSONResponse({"id": name, "object": "model", "deleted": True})
        message = f"The model '{name}' does not exist"
        raise ApiError(404, message, param="model", code="model_not_found")
    if step is not None:
        raise ApiError(400, "A checkpoint goes with its model: delete that.", param="model")
    try:
        gateway.client.models.delete(run)
    except Refused as error:
        raise ApiError(400, error.text, param="model", code="invalid_job_state") from None
    return JSONResponse({"id": name, "object": "model", "deleted": True})


def _shown(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": models.OWNED_BY}
