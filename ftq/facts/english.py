"""The little grammar that English needs: verbs, so that a purpose becomes a question."""

from __future__ import annotations

import re

VERBS = frozenset(["abort", "access", "activate", "add", "adjust", "allow", "apply", "approve", "archive", "ask", "assign", "attach", "authenticate", "avoid", "backup", "begin", "bind", "block", "boot", "bring", "build", "bump", "bypass", "cache", "call", "cancel", "capture", "change", "check", "choose", "clean", "clear", "clone", "close", "collect", "combine", "compare", "compile", "compress", "compute", "configure", "confirm", "connect", "continue", "control", "convert", "copy", "count", "create", "cut", "debug", "decide", "declare", "define", "delete", "deploy", "describe", "detach", "detect", "determine", "disable", "discard", "disconnect", "display", "download", "drop", "dump", "edit", "embed", "emit", "enable", "encode", "encrypt", "enforce", "ensure", "enter", "evaluate", "exclude", "execute", "exit", "expand", "export", "expose", "extend", "extract", "fetch", "filter", "find", "finish", "fix", "flag", "follow", "force", "format", "forward", "free", "generate", "get", "give", "group", "grow", "guarantee", "handle", "hide", "ignore", "implement", "import", "improve", "include", "increase", "inherit", "initialize", "initialise", "inject", "insert", "inspect", "install", "integrate", "invoke", "isolate", "join", "keep", "kill", "label", "launch", "leave", "limit", "link", "list", "listen", "load", "lock", "log", "look", "loop", "lower", "make", "manage", "map", "mark", "match", "measure", "merge", "migrate", "mock", "modify", "monitor", "mount", "move", "name", "normalize", "obtain", "omit", "open", "optimize", "organize", "override", "overwrite", "pack", "package", "parse", "pass", "paste", "patch", "pause", "pin", "place", "plot", "post", "prefix", "prepare", "preserve", "press", "prevent", "preview", "print", "profile", "protect", "provide", "publish", "pull", "purge", "push", "put", "query", "queue", "quit", "raise", "reach", "read", "rebuild", "receive", "recover", "redirect", "reduce", "refer", "reference", "refresh", "register", "reject", "release", "reload", "remove", "rename", "render", "reopen", "repair", "repeat", "replace", "report", "request", "require", "reset", "resolve", "restart", "restore", "restrict", "resume", "retrieve", "retry", "return", "reuse", "revert", "review", "roll", "rotate", "run", "save", "scale", "scan", "schedule", "search", "see", "select", "send", "separate", "serialize", "serve", "set", "share", "shorten", "show", "shut", "sign", "simulate", "skip", "solve", "sort", "specify", "split", "start", "stop", "store", "stream", "submit", "subscribe", "switch", "sync", "take", "tell", "terminate", "test", "throw", "time", "track", "train", "transfer", "transform", "translate", "trigger", "troubleshoot", "try", "tune", "turn", "type", "undo", "uninstall", "unlock", "unpack", "unset", "update", "upgrade", "upload", "use", "validate", "verify", "view", "visit", "wait", "watch", "wrap", "write"])  # fmt: skip


def _gerund(verb: str) -> str:
    if verb.endswith("e") and not verb.endswith(("ee", "ye")):
        return verb[:-1] + "ing"
    doubled = re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", verb) and not verb.endswith(("ok", "el"))
    is_last_stressed = verb in {
        "submit",
        "begin",
        "commit",
        "refer",
        "transfer",
        "reset",
        "unset",
        "forget",
        "embed",
        "emit",
        "omit",
    }
    return verb + (verb[-1] if doubled or is_last_stressed else "") + "ing"


GERUNDS = {_gerund(verb): verb for verb in sorted(VERBS)}
# Verbs that are nouns as well: only what follows tells.
NOUNS = frozenset("""
    abort access archive attach backup block boot build bump bypass cache call cancel change check clear close combine
    control copy count cut debug display download drop dump edit embed exit export file filter fix flag follow
    force format forward function group guarantee handle hide import insert install join keep kill label launch leave
    limit link list load lock log look loop make manage map mark match measure merge mock monitor mount move name
    open package pack pass paste patch pause pin place plot post press preview print process profile prompt publish
    pull purge push put query queue quit reach read record reference refresh register release reload report request
    reset restart restore result return review roll run save scale scan schedule search select serve set share show
    shut sign skip sort split stage start stop store stream switch sync test throw time track train transfer transform
    trigger try tune turn type upload update upgrade use view visit wait watch wrap write control produce purchase
    answer ask begin bind bring capture chain change clean compile complete extract fetch find get give trace support
""".split())  # fmt: skip
DETERMINERS = frozenset(
    "a an the your all each every this these it them one any another multiple several from to with".split()
)
TAKES_TWO = re.compile(r"\s(?:you|we|i|they|it|he|she)\s", re.IGNORECASE)


def as_purpose(text: str, is_verb: bool = False) -> str:
    """`Submitting a run`, `Submit a run`, `How to submit a run` -> `submit a run`; else empty.

    `is_verb`: the first word is known to be a verb, for `to` stood before it.
    """
    text = text.strip().rstrip(".:")
    lowered = text.lower()
    for start in ("how to ", "how do i ", "to "):
        if lowered.startswith(start):
            text, is_verb = text[len(start) :], True
            break
    first, _, rest = text.partition(" ")
    verb = GERUNDS.get(first.lower()) or (first.lower() if first.lower() in VERBS else "")
    if not verb or not rest or len(text.split()) > 14 or (TAKES_TWO.search(f" {rest} ") and "you" not in rest):
        return ""
    if verb == first.lower() and rest.split()[0].lower() in {"is", "are", "of", "for", "and", "or", "has", "was", "in"}:
        return ""  # a noun: `Release of ...`, `Cache and ...`
    is_noun = verb == first.lower() and verb in NOUNS and not is_verb
    if is_noun and rest.split()[0].lower() not in DETERMINERS and not rest.startswith("`"):
        return ""  # `Test prompts`
    return f"{verb} {rest}"
