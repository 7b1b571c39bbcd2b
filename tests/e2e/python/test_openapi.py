"""The OpenAPI document is valid by the specification, and tells the truth about tokens."""

import openapi_spec_validator


def test_the_document_is_valid(slotcast):
    status, document = slotcast.call("GET", "/api/openapi.json")
    assert status == 200
    openapi_spec_validator.validate(document)
    assert document["info"]["title"]


def test_every_operation_tells_what_it_is_and_how_it_is_refused(slotcast):
    _, document = slotcast.call("GET", "/api/openapi.json")
    names = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method not in ("get", "post", "put", "delete"):
                continue
            assert operation.get("summary") or operation.get("description"), f"{method} {path}"
            assert operation["operationId"] not in names, operation["operationId"]
            names.add(operation["operationId"])
            assert operation["responses"], f"{method} {path}"


def test_calls_without_a_token_are_those_that_the_document_leaves_open(slotcast):
    """Where the document asks for no token, none is needed; where it does, the answer is 401."""
    _, document = slotcast.call("GET", "/api/openapi.json")
    parameters = {"{idSpazio}": "1", "{sedeId}": "1", "{id}": "1", "{date}": "2026-12-01"}
    for path, item in document["paths"].items():
        for method in ("get", "post", "put", "delete"):
            if method not in item:
                continue
            concrete = path
            for name, value in parameters.items():
                concrete = concrete.replace(name, value)
            security = item[method].get("security", document.get("security", []))
            is_open = not security or {} in security
            status, answer = slotcast.call(method.upper(), concrete, {} if method in ("post", "put") else None)
            if is_open:
                assert status != 401, (method, path, answer)
            else:
                assert status == 401, (method, path, answer)
