"""Raises where it is told to, and tells what is edited."""

import json

from arcyou import accept, plugin


class Raising:
    def __init__(self, config):
        if "refuse" in config:
            raise ValueError(config["refuse"])

    def validate(self, message):
        text = message.body.get("text")
        if text == "edits":
            return accept().annotate("edits", seen(message.edits))
        return None if text == "nothing" else look_up(message.body) if text == "throw" else accept()


def seen(edits):
    if edits is None:
        return "nothing"
    body = json.dumps(edits.body, separators=(",", ":"))
    return f"{edits.message_id} {edits.version} {body} {edits.body is edits.body}".lower()


def look_up(body):
    return body["absent"]


Configure, Validate = plugin(Raising, "validate")
