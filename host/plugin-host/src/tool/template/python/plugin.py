"""Turns shouting into speech."""

from arcyou import accept, plugin, replace, settings


class {{type}}:
    def __init__(self, config):
        """The table [plugin.config] in plugins.toml. An exception rejects it; its text tells the operator why."""
        self.config = settings(
            config,
            {
                "min_chars": 6,  # shorter texts, such as "OK", may be in capitals
                "allowed_roles": [],  # roles that may shout
            },
        )

    def filter(self, message):
        """A filter may change the message. A plugin that only accepts or rejects messages has `validate`. Both are asked
        about edits too: message.edits tells what is edited.
        """
        text = message.body.get("text")
        shouts = isinstance(text, str) and text.isupper() and len(text) >= self.config["min_chars"]
        if not shouts or message.sender_role in self.config["allowed_roles"]:
            return accept()
        return replace({**message.body, "text": text.lower()}).annotate("shouted", "yes")


# The hooks are "validate", "filter" and "on_join", and their classes Validate, Filter and OnJoin.
Configure, Filter = plugin({{type}}, "filter")
