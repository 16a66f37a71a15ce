"""Small checkpoints, tokenizer and chat template alone, in the style of the families that people fine-tune most.

The control tokens, their flags and what stands where are the families' own; the vocabulary is a few letters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORDS = ["the", "question", "answer", "what", "is", "capital", "of", "France", "Paris", "user", "system", "assistant"]


@dataclass(frozen=True)
class Family:
    """`marks` are added tokens that aren't special. `kind` is bytes, or one of SentencePiece's ways with a space."""

    template: str
    controls: list[str]
    stop: str
    kind: str = "bytes"
    marks: list[str] = field(default_factory=list)
    rstrip: bool = False
    start: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


CHATML = (
    "{%- for m in messages %}"
    "{%- if loop.first and m.role != 'system' %}{{ '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}{% endif %}"
    "{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PHI = (
    "{% for m in messages %}{% if m['role'] in ('system', 'user', 'assistant') and m['content'] %}"
    "{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LLAMA = (
    "{{- bos_token }}"
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{%- if messages[0].role == 'system' %}{%- set told = messages[0].content | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set told = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string }}"
    "{{- '\\n\\n' + told + '<|eot_id|>' }}"
    "{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
QWEN3 = (
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for m in messages %}{%- set text = m.content %}"
    "{%- if m.role == 'user' and not text.startswith('<tool_response>') %}"
    "{{- '<|im_start|>user\\n' + text + '<|im_end|>\\n' }}"
    "{%- elif m.role == 'assistant' %}"
    "{%- set thought = '' %}{%- if '</think>' in text %}"
    "{%- set thought = text.split('</think>')[0].split('<think>')[-1] %}{%- set text = text.split('</think>')[-1] %}"
    "{%- endif %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if loop.last %}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{%- endif %}"
    "{{- text.lstrip('\\n') + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' + m['content'] | trim }}"
    "{{ '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
MISTRAL = (
    "{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] %}{%- set rest = messages[1:] %}"
    "{%- else %}{%- set rest = messages %}{%- endif %}"
    "{{- bos_token }}"
    "{%- for m in rest %}{%- if m['role'] == 'user' %}"
    "{%- if loop.last and told is defined %}{{- '[INST] ' + told + '\\n\\n' + m['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + m['content'] + '[/INST]' }}{%- endif %}"
    "{%- else %}{% generation %}{{- ' ' + m['content'] + eos_token }}{% endgeneration %}{%- endif %}{%- endfor %}"
)
IM = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FAMILIES = {
    "smollm2": Family(CHATML, IM, "<|im_end|>"),
    "qwen2.5": Family(CHATML, IM, "<|im_end|>", marks=["<tool_call>", "</tool_call>"]),
    "qwen3": Family(QWEN3, IM, "<|im_end|>", marks=["<think>", "</think>", "<tool_response>"]),
    "llama-3": Family(
        LLAMA, ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|eot_id|>", start="<|begin_of_text|>", settings={"eos_token": "<|eot_id|>"},
    ),
    "phi-3.5": Family(
        PHI, ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"],
        "<|end|>", "prepend", rstrip=True, settings={"bos_token": "<s>", "eos_token": "<|endoftext|>"},
    ),
    "gemma": Family(
        GEMMA, ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
        "<end_of_turn>", "bare", marks=["\n\n", "<table>"], start="<bos>", settings={"eos_token": "<eos>"},
    ),
    "mistral": Family(
        MISTRAL, ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], "</s>", "first", start="<s>",
        settings={"eos_token": "</s>"},
    ),
}  # fmt: skip


def make_chat_model(path: Path, family: Family) -> Path:
    """Write tokenizer.json and tokenizer_config.json into `path` and return it."""
    path.mkdir(parents=True)
    _tokenizer(family).save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": family.template}
    settings |= {"bos_token": {"__type": "AddedToken", "content": family.start}} if family.start else {}
    (path / "tokenizer_config.json").write_text(json.dumps({**settings, **family.settings}))
    return path


def _tokenizer(family: Family) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    if family.kind == "bytes":
        vocabulary, merges = _pieces(sorted(pre_tokenizers.ByteLevel.alphabet()), [*WORDS, *(f"Ġ{w}" for w in WORDS)])
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        letters = [*family.controls, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "\n"]
        # as converters have it: merges that would make control tokens of plain text
        words = [*WORDS, *(f"▁{word}" for word in WORDS), "▁▁", *family.controls]
        vocabulary, merges = _pieces(letters, words)
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if family.kind == "first":
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        else:
            prepend = [normalizers.Prepend("▁")] if family.kind == "prepend" else []
            tokenizer.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, rstrip=family.rstrip and name[1] == "|") for name in family.controls]
    )
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in family.marks])
    if family.start:
        start = (family.start, tokenizer.token_to_id(family.start))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.start} $A", pair=f"{family.start} $A $B", special_tokens=[start]
        )
    return tokenizer


def _pieces(letters: list[str], words: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary of the letters and of all beginnings of the words, and the merges that lead to them."""
    pieces, merges = dict.fromkeys(letters), list[tuple[str, str]]()
    for word in words:
        for end in range(2, len(word) + 1):
            merge = (word[: end - 1], word[end - 1])
            merges += [merge] if merge not in merges else []
            pieces.setdefault(word[:end])
    return {piece: number for number, piece in enumerate(pieces)}, merges
