"""The one prompt format: training, inference and the exported template all take it from here.

A training text is `Instruction: ..., Input: ..., Response: ...` ended by the model's stop token. The
prompt ends right after the colon and the completion starts with the space, because byte-pair
tokenizers keep a word and the space before it in one token: cut elsewhere, training and inference
would see different tokens.
"""

from __future__ import annotations


def prompt(instruction: str, input: str = "") -> str:
    """The text the model sees before it answers."""
    return f"Instruction: {instruction.strip()}, Input: {input.strip()}, Response:"


def completion(output: str, stop: str) -> str:
    """The text the model learns to write: the answer, ended by the stop token."""
    return f" {output.strip()}{stop}"


# The same prompt as a chat template (Jinja), stored in the tokenizer and so in the GGUF: the last
# user message is the instruction, a system message (if any) the input.
CHAT_TEMPLATE = (
    "{%- set ns = namespace(system='', user='') -%}"
    "{%- for m in messages -%}"
    "{%- if m['role'] == 'system' -%}{%- set ns.system = m['content'] | trim -%}{%- endif -%}"
    "{%- if m['role'] == 'user' -%}{%- set ns.user = m['content'] | trim -%}{%- endif -%}"
    "{%- endfor -%}"
    "{{- 'Instruction: ' + ns.user + ', Input: ' + ns.system + ', Response:' -}}"
)

# The same prompt for Ollama's Modelfile (Go template).
OLLAMA_TEMPLATE = "Instruction: {{ .Prompt }}, Input: {{ .System }}, Response:"
