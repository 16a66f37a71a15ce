"""The one prompt format: training, inference and the exported template all take it from here.

A training text is `Instruction: ..., Input: ..., Response: ...` and the model's stop token. The prompt ends right after
the colon and the completion starts with the space, because byte-pair tokenizers keep a word and the space before it in
one token: cut elsewhere, training and inference would see different tokens.
"""

from __future__ import annotations

START = "Instruction:"


def prompt(instruction: str, input: str = "") -> str:
    """The text that the model sees before it answers."""
    return START + after_start(instruction, input)


def completion(output: str, stop: str) -> str:
    """The text that the model learns to write: the answer and the stop token."""
    return f" {output.strip()}{stop}"


def after_start(instruction: str, input: str) -> str:
    """What the prompt has after `START`: from a single space on."""
    return f" {instruction.strip()}, Input: {input.strip()}, Response:"


# The same prompt as a chat template (Jinja), stored in the tokenizer and so in the GGUF: the user's last message is the
# instruction, and what was said before is the input, as `ftq.examples.json_records` makes examples of a chat.
CHAT_TEMPLATE = (
    "{%- set ns = namespace(before='', question='') -%}"
    "{%- for m in messages -%}"
    "{%- set text = (m['content'] or '') | trim -%}"
    "{%- if m['role'] == 'user' -%}"
    "{%- set ns.question = (ns.question + '\\n' + text) | trim -%}"
    "{%- elif m['role'] == 'assistant' and not loop.last -%}"
    "{%- if ns.question -%}{%- set ns.before = ns.before + 'User: ' + ns.question + '\\n' -%}{%- endif -%}"
    "{%- set ns.before = ns.before + 'Assistant: ' + text + '\\n' -%}"
    "{%- set ns.question = '' -%}"
    "{%- elif m['role'] == 'system' or m['role'] == 'developer' -%}"
    "{%- set ns.before = ns.before + text + '\\n' -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{{- 'Instruction: ' + ns.question + ', Input: ' + (ns.before | trim) + ', Response:' -}}"
)

# The same for Ollama's Modelfile (Go template), which can't trim. Only messages of one role in a row differ: Ollama
# joins them by an empty line before.
OLLAMA_TEMPLATE = r"""{{- $before := "" }}{{ $line := "" }}{{ $question := "" }}
{{- range $i, $_ := .Messages }}
{{- if eq .Role "user" }}{{ if $question }}{{ $question = print $question "\n" }}{{ end }}
{{- $question = print $question .Content }}
{{- else if and (eq .Role "assistant") (slice $.Messages $i | len | lt 1) }}
{{- if $question }}{{ $before = print $before $line "User: " $question }}{{ $line = "\n" }}{{ end }}
{{- $before = print $before $line "Assistant: " .Content }}{{ $line = "\n" }}{{ $question = "" }}
{{- else if or (eq .Role "system") (eq .Role "developer") }}
{{- $before = print $before $line .Content }}{{ $line = "\n" }}
{{- end }}
{{- end -}}
Instruction: {{ $question }}, Input: {{ $before }}, Response:"""
