"""A client that `openapi-python-client` makes of the document calls every operation."""

import importlib
import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from conftest import BINARY, sign_token

# A user of its own, because a kept message would reach the clients of other tests.
SPACE, SITE, USER = 78, 1, 7801


# A holiday, a stretch of days and a day of the week.
CLOSURES = ["2026-12-25", {"from": "2026-08-10", "to": "2026-08-21"}, {"weekday": "sunday"}]


def a_working_day():
    """The first day from tomorrow on that is not closed."""

    def is_open(day):
        text = day.isoformat()
        return text != "2026-12-25" and not "2026-08-10" <= text <= "2026-08-21" and day.weekday() != 6

    return next(day for day in (date.today() + timedelta(days=ahead) for ahead in range(1, 30)) if is_open(day))


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The generated package, and the ids of the document's operations."""
    folder = tmp_path_factory.mktemp("openapi")
    document = folder / "openapi.json"
    document.write_bytes(subprocess.run([BINARY, "openapi"], check=True, capture_output=True).stdout)
    generator = [sys.executable, "-m", "openapi_python_client"]
    options = ["generate", "--path", str(document), "--meta", "none", "--output-path", str(folder / "slotcast_api")]
    # The generator formats what it writes with a program beside it.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    made = subprocess.run([*generator, *options], capture_output=True, text=True, env=environment)
    said = made.stdout + made.stderr
    assert made.returncode == 0 and "arning" not in said, said
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    calls = [call for path in json.loads(document.read_text())["paths"].values() for call in path.values()]
    yield {call["operationId"]: call["tags"][0] for call in calls}
    sys.path.remove(str(folder))


class Caller:
    """Calls operations by their ids, and notes which were called."""

    def __init__(self, slotcast, operations):
        package = importlib.import_module("slotcast_api")
        self.models = importlib.import_module("slotcast_api.models")
        self.operations = operations
        self.called = set()
        user, staff = sign_token(USER), sign_token(900, ruolo="gestore")
        self.clients = {
            "anyone": package.Client(base_url=slotcast.url),
            "user": package.AuthenticatedClient(base_url=slotcast.url, token=user),
            "staff": package.AuthenticatedClient(base_url=slotcast.url, token=staff),
        }

    def call(self, who, operation, *path, **more):
        tag = self.operations[operation]
        module = importlib.import_module(f"slotcast_api.api.{tag}.{operation}")
        answer = module.sync_detailed(*path, client=self.clients[who], **more)
        assert answer.status_code == 200, (operation, answer.content)
        self.called.add(operation)
        return answer.parsed


def test_every_operation_is_called(slotcast, api):
    caller = Caller(slotcast, api)
    call, models = caller.call, caller.models
    day = a_working_day()
    one = {"id_spazio": SPACE, "sede_id": SITE, "date": day}
    space = models.SpaceRequest.from_dict({"name": "Sala", "closures": CLOSURES})
    registered = call("staff", "put_space", SITE, str(SPACE), body=space)
    assert registered.data.to_dict()["closures"] == CLOSURES
    call("anyone", "read_space", SITE, SPACE)
    board = call("user", "read_board", SPACE, day, sede_id=str(SITE))
    assert len(board.data.slots) == 9

    held = call("user", "hold_slot", 1, body=models.SlotRequest(**one, hold_seconds=60), idempotency_key="a-key")
    token = held.data.hold_token
    call("user", "extend_slot", 1, body=models.SlotRequest(**one, hold_token=token))
    assert call("user", "list_holds").data.holds[0].hold_token == token
    call("user", "book_slot", 1, body=models.SlotRequest(**one))
    call("staff", "release_slot", 1, body=models.SlotRequest(**one))
    some = models.SlotsRequest(**{**one, "id_spazio": str(SPACE)}, slots=[2, 3])
    many = call("user", "hold_slots", body=some)
    call("user", "extend_slots", body=some)
    call("user", "book_slots", body=some)
    call("staff", "release_slots", body=some)
    call("staff", "update_slot", 5, body=models.UpdateRequest(**one, status="blocked"))
    call("staff", "update_slots", body=models.UpdatesRequest(**one, slots=[6, 7], status="booked", id_utente=USER))
    call("user", "list_bookings")
    call("staff", "update_slots", body=models.UpdatesRequest(**one, slots=[6, 7], status="available"))
    assert [listed.name for listed in call("anyone", "list_spaces", sede_id=str(SITE)).data.spaces] == ["Sala"]
    call("staff", "list_changes", SITE, SPACE, epoch=many.data.epoch, version=many.data.version)
    call("staff", "show_board", SITE, SPACE, body=models.ShowBoardRequest(date=day))
    call("staff", "update_slot", 5, body=models.UpdateRequest(**one, status="available"))
    trial = call("staff", "delete_space", SITE, SPACE, dry_run=True)
    assert isinstance(trial.data, models.TrialAnswer) and trial.data.affected == []
    call("staff", "put_space", SITE, SPACE, body=space, dry_run=True)
    removed = call("staff", "delete_space", SITE, SPACE)
    assert isinstance(removed.data, models.SpaceAnswer)

    notified = call("staff", "notify_user", str(USER), body=models.MessageRequest(event="news", data=[1]))
    assert notified.data.id_utente == USER
    call("staff", "disconnect_user", str(USER))
    kept = call("user", "export_user", str(USER)).data
    assert "news" in [notification.event for notification in kept.notifications]
    assert call("staff", "erase_user", str(USER), force=True).data.cancelled == 0
    call("staff", "broadcast", body=models.MessageRequest(event="news", data={"n": 1}))
    call("staff", "sweep")
    assert call("staff", "read_journal", sede_id=str(SITE), limit=10).data.entries
    call("staff", "read_stats")
    for operation in ["read_openapi", "check_alive", "check_ready"]:
        call("anyone", operation)
    assert caller.called == set(api)
