"""Plugins for the ArcYou chat gateway in Python: a class, made from its configuration, with a method for each hook.

    from arcyou import accept, plugin, reject, settings

    class NoBots:
        def __init__(self, config):
            self.config = settings(config, {"allowed": ["helper"]})

        def validate(self, message):
            welcome = message.sender_role != "bot" or message.body.get("name") in self.config["allowed"]
            return accept() if welcome else reject("bots", "no bots here")

    Configure, Validate = plugin(NoBots, "validate")

A message has conversation_id, sender_id, sender_role, body (parsed), annotations and edits; a join has conversation_id,
user_id and role. The hooks are asked about edits as about messages that are sent: body is the whole new body. edits tells
what is edited, with message_id, version and body (parsed) as they stand now, and is None for a message that is sent.

The modules arcyou.clock, arcyou.random, arcyou.kv and arcyou.http are what a plugin may be granted: one that
imports them needs the grants.
"""

import json
import sys
from functools import cached_property

from componentize_py_types import Err
from wit_world.imports import log as _log
from wit_world.imports import types as _types


def error(text):
    _log.log(_log.Level.ERROR, str(text))


def warn(text):
    _log.log(_log.Level.WARN, str(text))


def info(text):
    _log.log(_log.Level.INFO, str(text))


def debug(text):
    _log.log(_log.Level.DEBUG, str(text))


class Verdict:
    def __init__(self, verdict):
        self._verdict = verdict
        self._annotations = []

    def annotate(self, key, value):
        """Notes something beside the verdict: later plugins see it, and it is stored with the message."""
        self._annotations.append(_types.Annotation(key, str(value)))
        return self


def accept():
    """The message stands as it is."""
    return Verdict(_types.Verdict_Accept())


def reject(code, reason, retry_after_ms=None):
    """The message is refused; the sender sees the token, [a-z0-9_.-], and the sentence."""
    return Verdict(_types.Verdict_Reject(_types.Rejection(code, reason, retry_after_ms)))


def replace(body):
    """The message goes on with this body. For filters alone."""
    return Verdict(_types.Verdict_Replace(json.dumps(body, ensure_ascii=False, separators=(",", ":"))))


def discard():
    """The sender is acknowledged, nothing is stored, nobody is told. If it is an edit, what stood before goes on standing."""
    return Verdict(_types.Verdict_Discard())


def hold(reason):
    """The message waits for a review. If it is an edit, what stood before goes on standing until then."""
    return Verdict(_types.Verdict_Hold(reason))


class Edited:
    """What an edit is about. Few plugins read its body, so it is parsed when it is asked for."""

    def __init__(self, wire):
        self.message_id, self.version, self._text = wire.message_id, wire.version, wire.body

    @cached_property
    def body(self):
        return json.loads(self._text)


class Admission:
    def __init__(self, refusal=None):
        self._refusal = refusal


def allow():
    """The join goes on."""
    return Admission()


def refuse(code, reason, retry_after_ms=None):
    """The join is refused; the user sees the token, [a-z0-9_.-], and the sentence."""
    return Admission(_types.Rejection(code, reason, retry_after_ms))


def settings(config, defaults):
    """The configuration over its defaults. A key without a default, or a value of another type, is the operator's slip."""
    for key, value in config.items():
        if key not in defaults:
            raise ValueError(f'unknown key "{key}"; there are {", ".join(defaults)}')
        if type(value) is not type(defaults[key]):
            raise ValueError(f'"{key}" must be of the type {type(defaults[key]).__name__}')
    return {**defaults, **config}


def _stack():
    """The exception in hand. The module traceback would read the sources, and there are no files in the sandbox."""
    thrown = sys.exc_info()[1]
    lines, frame = [f"{type(thrown).__name__}: {thrown}"], thrown.__traceback__
    while frame:
        code = frame.tb_frame.f_code
        lines.append(f"at {code.co_filename}:{frame.tb_lineno} in {code.co_name}")
        frame = frame.tb_next
    return "\n    ".join(lines)


#: The hooks, each with the name that its class must have in the module.
HOOKS = {"validate": "Validate", "filter": "Filter", "on_join": "OnJoin"}

#: The classes that `plugin` made, by the names that they must have. For the build, which looks whether they have them.
made_classes = {}


def is_near(word, name):
    """Whether somebody who wrote `word` may have meant `name`: the same letters, or one is missing."""
    a, b = ("".join(filter(str.isalpha, text.lower())) for text in (word, name))
    return sorted(a) == sorted(b) or a in (b[:at] + b[at + 1 :] for at in range(len(b)))


def _check(rule, hooks):
    """Raises what looks like a slip of the author."""
    names = ", ".join(HOOKS)
    for hook in hooks:
        if hook not in HOOKS:
            raise ValueError(f'there is no hook "{hook}": the hooks are {names}')
        if not callable(getattr(rule, hook, None)):
            raise ValueError(f'{rule.__name__} has no method {hook}, which plugin(…) names')
    if not hooks:
        raise ValueError(f"plugin(…) names no hook: the hooks are {names}")
    for method in vars(rule):
        if method in HOOKS and method not in hooks:
            raise ValueError(f"{rule.__name__} has the method {method}, and plugin(…) does not name it")
        meant = next((hook for hook in HOOKS if is_near(method, hook)), None)
        if method not in HOOKS and meant and not hasattr(rule, meant):
            raise ValueError(f"{rule.__name__} has the method {method}, which no gateway calls; did you mean {meant}?")


def plugin(rule, *hooks):
    """What the gateway calls: the classes `Configure` and one for each hook, of "validate", "filter" and "on_join", in
    this order. They must be named `Configure`, `Validate`, `Filter` and `OnJoin`.

    An exception in a hook fails the call, and its stack is in the gateway's log.
    """
    _check(rule, hooks)
    made = None

    def configure(_, text):
        nonlocal made
        try:
            made = rule(json.loads(text))
        except Exception as refused:
            debug(_stack())
            raise Err(str(refused)) from None

    def judge(hook, message):
        message.body = json.loads(message.body)
        message.edits = None if message.edits is None else Edited(message.edits)
        verdict = getattr(made, hook)(message)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"{hook} must return a verdict, such as accept()")
        return _types.Judgement(verdict._verdict, verdict._annotations)

    def admit(_, join):
        # Only a plugin with this hook has the types of its answers.
        from wit_world.exports import on_join as wire

        admission = made.on_join(join)
        if not isinstance(admission, Admission):
            raise TypeError("on_join must return allow() or refuse(code, reason)")
        refusal = admission._refusal
        return wire.Decision_Allow() if refusal is None else wire.Decision_Refuse(refusal)

    def asking(hook):
        answer = admit if hook == "on_join" else judge

        def ask(_, asked):
            try:
                return answer(hook, asked)
            except BaseException:
                error(f"uncaught {_stack()}")
                raise

        return type(HOOKS[hook], (), {hook: ask})

    classes = (type("Configure", (), {"configure": configure}), *map(asking, hooks))
    made_classes.update((each.__name__, each) for each in classes)
    return classes
