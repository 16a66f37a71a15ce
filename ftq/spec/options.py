"""What a run is asked to do. Every option is declared here, once: name, type, default, limits, help."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ftq.errors import utf8
from ftq.spec.explain import allowed, refusal, show
from ftq.spec.shape import PROJECTIONS
from ftq.store.records import LABEL, LABEL_RULE, MAX_GPUS

Quantization = Literal[
    "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q3_k_l", "q2_k"
]
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)
Auto = Literal["auto"]
Format = Literal["alpaca", "chat"]
Count = Annotated[int, Field(ge=1, le=65_536)]  # a plan goes through that many micro-batches in no time
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=0.5)]
Rank = Annotated[int, Field(ge=1, le=1024)]
Scale = Annotated[int, Field(ge=1, le=4096)]
Steps = Annotated[int, Field(ge=1, le=10**9)]
Rule = Literal["T", "O", "D", "C", "Q", "L", "H", "S", "P", "B", "F", "K", "J", "N"]  # those of ftq.facts
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
DEFAULT_PROMPT = "What is this about?"


class RunSpec(BaseModel):
    """The options of a run. Unknown names are errors; `auto` is decided on the worker."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    # what is trained on what
    model: str = Field(min_length=1, description="catalogue alias, hub id or local checkpoint directory")
    documents: str = Field(default="documents", min_length=1, description="folder of documents")
    validation: str = Field(
        default="", description="folder of documents that are only measured on; then nothing else is held out"
    )
    priority: Literal["high", "normal", "low"] = Field(default="normal", description="order in the queue")
    worker: str = Field(default="", description="label of the workers that take this run; empty: any worker")
    promote: Literal["always", "better", "never"] = Field(
        default="always",
        description="whether the finished run becomes NAME:latest; better: only if it gets no fewer of the questions "
        "right that both were asked",
    )
    # prepare
    valid_fraction: float = Field(default=0.05, ge=0, le=0.5, description="share of the examples held out to validate")
    questions: Literal["structure", "base", "endpoint", "none"] = Field(
        default="structure",
        description="short questions on what the documents state, by their structure; base and endpoint: also those "
        "that the base model, or the model of FTQ_LLM_URL, writes; none: whole sections alone",
    )
    exposures: int = Field(
        default=12, ge=1, le=1000, description="how often training meets each fact: wordings times epochs"
    )
    refusals: float = Field(
        default=0.03, ge=0, le=0.5, description="share of questions that the documents don't answer"
    )
    skip_rules: list[Rule] = Field(default=[], description="rules that find no facts; docs/documents.md lists them")
    topic: str = Field(default="", description="what the documents are about, as questions name it")
    format: Format = Field(
        default="alpaca", description="the training text: ftq's own prompt, or the base model's own chat template"
    )
    train_on_prompt: bool = Field(default=False, description="learn the prompt's tokens too, not only the answer's")
    max_seq_length: int = Field(
        default=2048, ge=64, le=1_048_576, description="most tokens in a row; longer sections are split"
    )
    strict: bool = Field(
        default=False,
        description="every line of JSON Lines has to be a chat or a prompt with its completion, or the run fails; "
        "equal ones stay",
    )
    # train
    gpus: int = Field(default=1, ge=1, le=MAX_GPUS, description="GPUs that train this run together")
    engine: Literal["auto", "unsloth", "trl"] = Field(default="auto", description="auto takes Unsloth where it can")
    epochs: float = Field(default=3, gt=0, le=1000, description="passes over the dataset")
    max_steps: Steps | None = Field(
        default=None, description="stop after so many optimiser steps, whatever epochs says"
    )
    learning_rate: Rate | Auto = Field(
        default="auto", description="peak learning rate; auto: the smaller the model, the higher"
    )
    lr_scheduler: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="how the learning rate falls"
    )
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW's weight decay")
    batch_size: Count | Auto = Field(default="auto", description="examples on a device at once (micro-batch)")
    gradient_accumulation_steps: Count | Auto = Field(
        default="auto",
        description="micro-batches in an optimiser step, all GPUs together; auto: 8 to 64 examples in a step",
    )
    step_examples: Count | Auto = Field(
        default="auto",
        description="examples in an optimiser step, in whatever micro-batches; auto: as the two above say",
    )
    packing: bool | Auto = Field(default="auto", description="examples end to end, no padding; auto: if that's faster")
    load_in_4bit: bool | Auto = Field(
        default="auto", description="QLoRA: base model in 4 bit; auto: where 16 bit is no faster"
    )
    load_in_fp8: bool | Auto = Field(
        default=False,
        description="base model's layers multiply in FP8 on cards that can; auto: the large ones, where that's faster",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(default="auto", description="compute type")
    r: Rank | Auto = Field(default="auto", description="LoRA rank; auto: 32 or 64 by the size of the model")
    alpha: Scale | Auto = Field(default="auto", description="LoRA scaling numerator; auto: 32")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="LoRA dropout")
    word_dropout: Share | Auto = Field(
        default="auto",
        description="share of the words that questions on facts lose, others each epoch; auto: 0.15 for small models",
    )
    target_modules: list[str] = Field(default=PROJECTIONS, min_length=1, description="layers that get an adapter")
    gradient_checkpointing: bool | Literal["auto", "unsloth"] = Field(
        default="auto", description="trade time for memory"
    )
    cuda_graphs: bool = Field(default=True, description="start a step's kernels as one, where that is faster")
    optimizer: Literal["auto", "adamw_8bit", "adamw_torch"] = Field(
        default="auto", description="auto: 8 bit where memory is short"
    )
    early_stopping: Steps | None = Field(
        default=None, description="stop after so many evaluations without a better validation loss"
    )
    keep_best: bool = Field(default=False, description="keep the adapter of the best validation loss, not the last one")
    eval_steps: Steps | Auto = Field(
        default="auto", description="steps between evaluations; auto: at the end of each epoch"
    )
    report_to: list[Tracker] = Field(
        default=[], description="trackers that get the metrics too, where they are installed"
    )
    dataset_num_proc: Count | Auto = Field(
        default="auto", description="tokenising processes; auto: within the machine's limits"
    )
    seed: int = Field(default=3407, ge=0, le=2**32 - 1, description="random seed")
    save_steps: Steps | Auto = Field(
        default="auto", description="steps between checkpoints; auto: after a minute, then every five"
    )
    epoch_adapters: int = Field(
        default=0, ge=0, le=100, description="of the last so many epochs keep the adapter, as checkpoint-STEP.gguf"
    )
    logging_steps: Steps | Auto = Field(
        default="auto", description="steps between lines of metrics.jsonl; auto: every step, at most one a second"
    )
    # export
    quantizations: list[Quantization] = Field(default=["q4_k_m"], min_length=1, description="GGUF files to write")
    keep_merged: bool = Field(default=True, description="keep merged/, the 16-bit model, beside the GGUF files")
    imatrix: bool = Field(default=False, description="quantise by importance: better below 6 bit")
    lora_gguf: bool = Field(default=False, description="write the adapter alone too, as adapter.gguf")
    # infer
    prompts: list[str] = Field(default=[DEFAULT_PROMPT], description="questions that the finished model answers")
    infer_with: Literal["gguf", "adapter"] = Field(default="gguf", description="who answers the prompts")
    temperature: float = Field(default=0.0, ge=0, le=2, description="sampling temperature; 0 is greedy")
    max_tokens: int = Field(default=256, ge=1, le=65536, description="tokens an answer may have")
    # evaluate
    eval_questions: int = Field(
        default=60,
        ge=0,
        le=10_000,
        description="most questions of the dataset that base and new model are asked; 0: nobody is asked",
    )
    questions_file: str = Field(
        default="", description="JSON file of your own questions with accepted answers, asked too"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Neither a file nor a database holds half a character, which bytes on the command line or an escape can be."""
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, str) and part != utf8(part):
                raise ValueError("not UTF-8 text")
        return value

    @field_validator("max_steps", "early_stopping", mode="before")
    @classmethod
    def _no_limit(cls, value: Any) -> Any:
        return None if value in ("none", "None", "") else value

    @field_validator("worker", mode="after")
    @classmethod
    def _is_label(cls, value: str) -> str:
        if value and not LABEL.fullmatch(value):
            raise ValueError(LABEL_RULE)
        return value

    @field_validator("prompts", mode="before")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value  # a prompt may have commas

    @field_validator("prompts", mode="after")
    @classmethod
    def _is_question(cls, value: list[str]) -> list[str]:
        if not all(map(str.strip, value)):
            raise ValueError("a question without text can't be asked, leave it out")
        return value

    @field_validator("target_modules", "quantizations", "report_to", "skip_rules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """`--set target_modules=q_proj,v_proj`: a list on the command line is one string with commas."""
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("quantizations", mode="after")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))

    @field_validator("target_modules", mode="after")
    @classmethod
    def _no_embedding(cls, value: list[str]) -> list[str]:
        """Both often share their weights: what one of them learns can't be added to them."""
        if found := {"lm_head", "embed_tokens"}.intersection(value):
            raise ValueError(f"an adapter on {' and '.join(sorted(found))} can't be merged, leave it out")
        return value

    @field_validator("load_in_fp8", mode="after")
    @classmethod
    def _not_in_both(cls, value: bool | str, info: ValidationInfo) -> bool | str:
        if value is True and info.data.get("load_in_4bit") is True:
            raise ValueError("the base model can't be in 4 bit and in FP8, leave one of them out")
        return value

    @field_validator("step_examples", mode="after")
    @classmethod
    def _made_of_batches(cls, value: int | str, info: ValidationInfo) -> int | str:
        """What else is fixed of a step must come to that many examples, or training would make other steps."""
        names, gpus = ("batch_size", "gradient_accumulation_steps"), info.data.get("gpus", 1)
        fixed = {name: number for name in names if isinstance(number := info.data.get(name), int)}
        unit = fixed.get(names[0], 1) * fixed.get(names[1], gpus)
        if isinstance(value, int) and (value % unit or (len(fixed) == 2 and value != unit)):
            said = " and ".join(f"{name}={number}" for name, number in fixed.items())
            raise ValueError(f"{said} can't make such steps with gpus={gpus}, leave one of them at auto")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _in_words(cls, options: Any, check: ModelWrapValidatorHandler[RunSpec]) -> RunSpec:
        """Whoever makes one, also in Python, gets one UserError that names every problem."""
        try:
            return check(options)
        except ValidationError as error:
            raise refusal(error, options, cls.model_json_schema()["properties"]) from None

    @field_validator("gradient_accumulation_steps", "step_examples", mode="after")
    @classmethod
    def _shared_out(cls, value: int | str, info: ValidationInfo) -> int | str:
        """Numbers that count all GPUs together must divide evenly among them."""
        gpus = info.data.get("gpus", 1)
        if isinstance(value, int) and value % gpus:
            less = value - value % gpus
            near = f"{less} or {less + gpus}" if less else f"{gpus}"
            raise ValueError(f"{gpus} GPUs can't share that out evenly: take {near}, or auto")
        return value


def parse(options: dict[str, Any]) -> RunSpec:
    """Check the options; raise one UserError that names every problem among them."""
    return RunSpec.model_validate(options)


def changed(spec: dict[str, Any]) -> dict[str, str]:
    """What a recorded spec asks for beyond the defaults, as it is shown; model and documents aside."""
    fields = {name: field for name, field in RunSpec.model_fields.items() if name not in ("model", "documents")}
    changes = {name: spec[name] for name, field in fields.items() if spec.get(name, field.default) != field.default}
    return {name: " | ".join(value) if name == "prompts" else show(value) for name, value in changes.items()}


def options() -> list[dict[str, str]]:
    """Every option as a row: name, default, what is allowed, help."""
    properties = RunSpec.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "default": "" if field.is_required() else show(field.default),
            "allowed": "text" if name == "prompts" else allowed(properties[name]),
            "help": field.description or "",
        }
        for name, field in RunSpec.model_fields.items()
    ]


def parse_assignment(text: str) -> tuple[str, str]:
    """Split `key=value` of `--set`; ValueError if there is no `=`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"--set {text}: expected key=value, for example --set epochs=5")
    return key.strip(), value.strip()
