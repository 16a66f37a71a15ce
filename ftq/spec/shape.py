"""The sizes of a decoder, as its config.json has them: what its weights, its adapter and its time follow from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Weights of a linear module below which FP8 gains nothing: quantising what it reads takes as long as its product saves.
LEAST_IN_FP8 = 8_000_000

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]  # a layer's linear modules

# In a config: the layers that a Shape counts, and parts of the names of what others have.
ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")
NOT_ATTENTION = ("mamba", "ssm", "linear_num", "linear_attn")


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, as Llama, Mistral, Qwen, Phi-3 and Gemma have them."""

    layers: int
    hidden: int
    intermediate: int
    query: int  # heads x their width
    key: int  # key-value heads x their width
    vocabulary: int
    tied: bool  # the output layer is the embedding
    fused: bool = False  # query, key and value are one module, gate and up another (Phi-3)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Shape | None:
        """Read a checkpoint's config.json; None for a model with experts, state spaces or linear attention."""
        config = reading_part(config)
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
        if any(not isinstance(config.get(name), int) for name in names) or _is_mixed(config):
            return None
        layers, hidden, intermediate, heads, vocabulary = (config[name] for name in names)
        width = config.get("head_dim") or hidden // heads
        keys = (config.get("num_key_value_heads") or heads) * width
        tied, fused = bool(config.get("tie_word_embeddings", False)), config.get("model_type") == "phi3"
        return cls(layers, hidden, intermediate, heads * width, keys, vocabulary, tied, fused)

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """A layer's linear modules: name -> (columns in, rows out)."""
        hidden, middle = self.hidden, self.intermediate
        return {
            "q_proj": (hidden, self.query),
            "k_proj": (hidden, self.key),
            "v_proj": (hidden, self.key),
            "o_proj": (self.query, hidden),
            "gate_proj": (hidden, middle),
            "up_proj": (hidden, middle),
            "down_proj": (middle, hidden),
        }

    @property
    def linear(self) -> int:
        """Weights in the layers' linear modules: what 4 bit shrinks and every token is multiplied with."""
        return self.layers * sum(columns * rows for columns, rows in self.modules.values())

    @property
    def gaining(self) -> int:
        """Weights in the linear modules that are large enough to gain by FP8, of all layers."""
        sizes = [columns * rows for columns, rows in self.modules.values()]
        if self.fused:
            query, key, value, output, gate, up, down = sizes
            sizes = [query + key + value, output, gate + up, down]
        return self.layers * sum(size for size in sizes if size >= LEAST_IN_FP8)

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.linear + self.embeddings

    def adapter(self, r: int, targets: list[str]) -> int:
        """Weights of a LoRA of rank r on these modules: r x (columns + rows) each; fused modules share columns."""
        sizes = [sum(self.modules[name]) for name in targets if name in self.modules]
        if self.fused:
            groups = [{"q_proj", "k_proj", "v_proj"} & set(targets), {"gate_proj", "up_proj"} & set(targets)]
            sizes += [-self.hidden * (len(group) - 1) for group in groups if group]
        return self.layers * r * sum(sizes)


def reading_part(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a config.json; all of it unless the model also sees or hears."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _is_mixed(config: dict[str, Any]) -> bool:
    """Whether some layers aren't attention and one MLP. Each family has its own names for what it has instead."""
    experts = any("experts" in name and isinstance(value, int) and value > 1 for name, value in config.items())
    others = any(value and any(word in name for word in NOT_ATTENTION) for name, value in config.items())
    kinds = config.get("layer_types")
    return experts or others or (isinstance(kinds, list) and any(kind not in ATTENTION for kind in kinds))
