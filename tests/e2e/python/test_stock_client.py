"""python-socketio, as anyone installs it, against the built binary: all transports, events, refusals and catching up."""

import asyncio
import datetime

import pytest
import socketio
from conftest import sign_token

TRANSPORTS = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": ["polling", "websocket"]}
DATE = (datetime.date.today() + datetime.timedelta(days=7)).isoformat()


class Client:
    """The stock client with a memory: every event in the order in which it came."""

    def __init__(self, slotcast, transports=("websocket",), **options):
        self.url = slotcast.url
        self.transports = list(transports)
        self.events = []
        self.refusals = []
        self.disconnects = []
        self.news = asyncio.Condition()
        self.socket = socketio.AsyncClient(reconnection=False, **options)
        self.socket.on("*", self.on_any)
        self.socket.on("connect_error", self.on_refusal)
        self.socket.on("disconnect", self.on_disconnect)

    async def note(self, entries, entry):
        async with self.news:
            entries.append(entry)
            self.news.notify_all()

    async def on_any(self, event, *payload):
        await self.note(self.events, (event, payload[0] if payload else None))

    async def on_refusal(self, data):
        await self.note(self.refusals, data)

    async def on_disconnect(self, reason):
        await self.note(self.disconnects, reason)

    async def connect(self, token):
        auth = {} if token is None else {"token": token}
        await self.socket.connect(self.url, auth=auth, transports=self.transports, wait_timeout=30)
        return self

    def all(self, name):
        return [payload for event, payload in self.events if event == name]

    async def many(self, name, count):
        async def wait():
            async with self.news:
                await self.news.wait_for(lambda: len(self.all(name)) >= count)

        await asyncio.wait_for(wait(), 30)
        return self.all(name)

    async def first(self, name):
        return (await self.many(name, 1))[0]

    async def ended(self):
        async def wait():
            async with self.news:
                await self.news.wait_for(lambda: self.disconnects)

        await asyncio.wait_for(wait(), 30)
        return self.disconnects[0]

    async def call(self, event, payload):
        return await self.socket.call(event, payload, timeout=30)


@pytest.fixture(params=TRANSPORTS.values(), ids=TRANSPORTS.keys())
def transports(request):
    return request.param


def connected(slotcast, transports, user, scenario, **claims):
    """Runs a scenario with one connected client."""

    async def run():
        client = await Client(slotcast, transports).connect(sign_token(user, **claims))
        try:
            await scenario(client)
        finally:
            await client.socket.disconnect()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("token", "message"),
    [(None, "Token di autenticazione richiesto"), ("", "Token di autenticazione richiesto"), ("x", "Token non valido")],
)
def test_a_refusal_has_the_text_of_the_origin(slotcast, transports, token, message):
    async def run():
        client = Client(slotcast, transports)
        with pytest.raises(socketio.exceptions.ConnectionError):
            await client.connect(token)
        assert client.refusals[0]["message"] == message

    asyncio.run(run())


def test_a_connection_is_confirmed_and_a_room_joined(slotcast, transports):
    space = slotcast.fresh_space()

    async def scenario(client):
        confirmed = await client.first("connection_confirmed")
        assert confirmed["message"] == "Connesso al sistema real-time"
        assert confirmed["userId"] == 7
        assert set(confirmed) == {"message", "userId", "timestamp", "expiresAt"}
        await client.socket.emit("join_space", {"spazioId": space, "sedeId": 1, "date": DATE})
        joined = await client.first("joined_space")
        assert joined["room"] == f"spazio_{space}_sede_1"
        assert set(joined) == {"room", "spazioId", "sedeId", "timestamp", "epoch", "version", "recovered"}
        snapshot = await client.first("slots_status_update")
        assert [entry["status"] for entry in snapshot["slotsStatus"]] == ["available"] * 9
        assert [event for event, _ in client.events] == ["connection_confirmed", "joined_space", "slots_status_update"]

    connected(slotcast, transports, 7, scenario)


def test_acts_are_acknowledged_and_heard(slotcast, transports):
    space = slotcast.fresh_space()
    where = {"spazioId": space, "sedeId": 1}
    acts = {**where, "date": DATE, "slots": [1, 2]}

    async def scenario(client):
        assert (await client.call("join_space", where))["ok"] is True
        held = await client.call("hold_slot", acts)
        assert held["ok"] is True and held["slots"] == [1, 2]
        extended = await client.call("extend_hold", {**acts, "holdToken": held["holdToken"], "holdSeconds": 60})
        assert extended["heldUntil"] < held["heldUntil"]
        assert (await client.call("book_slot", {**acts, "slots": [1]}))["status"] == "booked"
        assert (await client.call("release_slot", {**acts, "slots": [2]}))["status"] == "available"
        updates = await client.many("slot_update", 6)
        assert [update["slotId"] for update in updates] == [1, 2, 1, 2, 1, 2]
        first = held["version"] - 1
        assert [update["version"] for update in updates] == list(range(first, first + 6))
        assert set(updates[0]) == {"type", "slotId", "status", "data", "timestamp", "epoch", "version"}
        assert (await client.call("leave_space", where))["ok"] is True

    connected(slotcast, transports, 8, scenario)


def test_refusals_are_acknowledged_or_told(slotcast, transports):
    async def scenario(client):
        unknown = await client.call("make_coffee", {})
        assert unknown["ok"] is False and unknown["error"]["code"] == "unknown_event"
        malformed = await client.call("join_space", {"spazioId": -1, "sedeId": 1})
        assert malformed["error"]["code"] == "malformed"
        forbidden = await client.call("join_space", {"spazioId": 1, "sedeId": 2})
        assert forbidden["error"]["code"] == "forbidden"
        await client.socket.emit("release_slot", {"spazioId": 99, "sedeId": 1, "date": DATE, "slots": [1]})
        error = await client.first("space_error")
        assert error["event"] == "release_slot" and error["code"] == "not_held"

    connected(slotcast, transports, 9, scenario, sedi=[1])


def test_since_replays_what_was_missed(slotcast, transports):
    space = slotcast.fresh_space()
    where = {"spazioId": space, "sedeId": 1}
    body = {"idSpazio": space, "sedeId": 1, "date": DATE}

    def change(status):
        return slotcast.staff("PUT", "/api/slots/1", {**body, "status": status})

    seen = change("blocked")
    missed = [change(status)["version"] for status in ("available", "booked", "available")]

    async def scenario(client):
        since = {"epoch": seen["epoch"], "version": seen["version"]}
        await client.socket.emit("join_space", {**where, "since": since})
        assert (await client.first("joined_space"))["recovered"] is True
        assert [update["version"] for update in await client.many("slot_update", 3)] == missed
        await client.call("sync", {**where, "date": DATE, "since": {"epoch": "another", "version": 1}})
        assert (await client.first("slots_status_update"))["version"] == missed[-1]
        assert len(client.all("slot_update")) == 3

    connected(slotcast, transports, 10, scenario)


def test_notifications_wait_for_the_user_and_a_disconnection_ends_the_socket(slotcast, transports):
    user = f"anna-{transports[0]}-{len(transports)}"
    for number in range(3):
        slotcast.staff("POST", f"/api/users/{user}/notify", {"event": "avviso", "data": {"n": number}})

    async def scenario(client):
        assert [data["n"] for data in await client.many("avviso", 3)] == [0, 1, 2]
        call = asyncio.get_running_loop().run_in_executor
        await call(None, slotcast.staff, "POST", f"/api/users/{user}/notify", {"event": "avviso", "data": {"n": 3}})
        assert (await client.many("avviso", 4))[3] == {"n": 3}
        await call(None, slotcast.staff, "POST", f"/api/users/{user}/disconnect")
        assert await client.ended() == socketio.AsyncClient.reason.SERVER_DISCONNECT

    connected(slotcast, transports, user, scenario)


def test_the_token_is_refreshed_in_place(slotcast, transports):
    async def scenario(client):
        assert (await client.call("refresh_token", {"token": sign_token(11)}))["ok"] is True
        assert (await client.call("refresh_token", {"token": sign_token(12)}))["ok"] is False
        assert (await client.call("watch_stats", {}))["error"]["code"] == "forbidden"
        staff = sign_token(11, ruolo="admin")
        assert (await client.call("refresh_token", {"token": staff}))["ok"] is True
        assert (await client.call("watch_stats", {}))["ok"] is True
        assert (await client.first("stats"))["totalSockets"] >= 1

    connected(slotcast, transports, 11, scenario)


def test_the_blocking_client_works_too(slotcast, transports):
    space = slotcast.fresh_space()
    with socketio.SimpleClient() as client:
        client.connect(slotcast.url, auth={"token": sign_token(13)}, transports=transports)
        assert client.receive(timeout=30)[0] == "connection_confirmed"
        client.emit("join_space", {"spazioId": space, "sedeId": 1})
        assert client.receive(timeout=30)[0] == "joined_space"
        held = client.call("hold_slot", {"spazioId": space, "sedeId": 1, "date": DATE, "slots": [9]}, timeout=30)
        assert held["ok"] is True
        event, update = client.receive(timeout=30)
        assert event == "slot_update" and update["data"]["orario"] == "17:00"
