"""Raises where it is told to."""

from arcyou import accept, plugin


class Raising:
    def __init__(self, config):
        if "refuse" in config:
            raise ValueError(config["refuse"])

    def validate(self, message):
        text = message.body.get("text")
        return None if text == "nothing" else look_up(message.body) if text == "throw" else accept()


def look_up(body):
    return body["absent"]


Configure, Validate = plugin(Raising, "validate")
