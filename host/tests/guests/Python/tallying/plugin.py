"""Uses whatever a plugin may be granted, and says what came of it."""

from arcyou import accept, allow, clock, http, kv, plugin, random, refuse


def code(work):
    try:
        return work()
    except (http.HttpError, kv.KvError) as error:
        return error.code


def fetch(url):
    response = http.send(url, method="POST", headers={"x-ask": "1"}, body=b"hi")
    return f"{response.status} {response.headers['x-told']} {response.body.decode()}"


class Tallying:
    def __init__(self, config):
        self.at_start = code(lambda: kv.get("any"))

    def validate(self, message):
        before = kv.get(message.sender_id)
        count = kv.increment(message.sender_id, message.body.get("by", 1), 60_000)
        kv.set("text", b"ok", 60_000)
        return (
            accept()
            .annotate("at_start", self.at_start)
            .annotate("before", "none" if before is None else before.decode())
            .annotate("count", count)
            .annotate("no_number", code(lambda: kv.increment("text", 1, 60_000)))
            .annotate("stored", kv.get("text").decode())
            .annotate("removed", f"{kv.delete('text')} {kv.delete('text')}".lower())
            .annotate("clock_ms", clock.now_ms())
            .annotate("bytes", len(random.token(8)))
            .annotate("number", random.number())
            .annotate("fetched", code(lambda: fetch(message.body["url"])))
        )

    def on_join(self, join):
        joins = kv.increment(f"join {join.conversation_id} {join.user_id}", 1, 60_000)
        return refuse("no_guests", f"join {joins}", retry_after_ms=5) if join.role == "guest" else allow()


Configure, Validate, OnJoin = plugin(Tallying, "validate", "on_join")
