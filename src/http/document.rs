//! Completes the OpenAPI document for programs that generate clients from it:
//!
//! - the address of the document, and the calls that take no token;
//! - ids in requests, which are a number or its digits, and what a closure is;
//! - a named schema in one piece for each answer's `data`, and no unused schemas;
//! - an example of each call.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The names of parameters and fields that hold the id of a space or a site.
const IDS: [&str; 3] = ["idSpazio", "sedeId", "spazioId"];

/// The name of every field that holds a user's id.
const USER: &str = "id_utente";

/// The schema whose user may be missing: an entry of the journal about slots that nobody had and nobody has.
const NOBODYS: &str = "JournalEntry";

/// The end of the names of request bodies.
const REQUEST: &str = "Request";

/// The beginning of the names of answers that have the result in `data`.
const SUCCESS: &str = "Success_";

/// Where schemas are referred to.
const SCHEMAS: &str = "#/components/schemas/";

/// The document, with its parts in the order in which people read it.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    openapi: Value,
    info: Value,
    servers: Value,
    tags: Value,
    paths: Value,
    components: Value,
}

impl Document {
    /// Finishes the derived document.
    pub fn finish(derived: &utoipa::openapi::OpenApi) -> Self {
        let mut whole = serde_json::to_value(derived).unwrap_or_default();
        let mut take = |name: &str| whole.get_mut(name).map(Value::take).unwrap_or_default();
        let mut document = Self {
            openapi: take("openapi"),
            info: take("info"),
            servers: json!([{"url": "/", "description": "The node that serves this document"}]),
            tags: take("tags"),
            paths: take("paths"),
            components: take("components"),
        };
        document.define_closures();
        document.flatten_all();
        document.free_objects();
        document.describe_defaults();
        document.define_ids();
        document.name_data();
        for_each_operation(&mut document.paths, finish_operation);
        document.drop_unused();
        document
    }

    /// The document as text.
    ///
    /// # Errors
    ///
    /// No failure is known, because the document is already JSON.
    pub fn to_pretty_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    fn schemas(&mut self) -> Option<&mut Map<String, Value>> {
        self.components.get_mut("schemas")?.as_object_mut()
    }

    fn define_closures(&mut self) {
        let Some(schemas) = self.schemas() else { return };
        for name in ["SpaceRequest", "SpaceAnswer"] {
            if let Some(closures) = schemas.get_mut(name).and_then(|schema| schema.pointer_mut("/properties/closures"))
            {
                closures["items"] = json!({"$ref": format!("{SCHEMAS}Closure")});
            }
        }
        schemas.insert("Closure".into(), closure_schema());
    }

    /// Says that ids in requests are numbers or digits, and that users are numbers or text.
    fn define_ids(&mut self) {
        for (name, schema) in self.schemas().into_iter().flatten() {
            let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { continue };
            for (property, schema) in properties.iter_mut() {
                if name.ends_with(REQUEST) && IDS.contains(&property.as_str()) {
                    become_id(schema);
                } else if property == USER {
                    become_user(schema);
                    if name == NOBODYS {
                        schema["type"] = json!(["integer", "string", "null"]);
                    }
                }
            }
        }
        for_each_operation(&mut self.paths, |operation| {
            for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap_or_default().to_owned();
                if IDS.contains(&name.as_str()) {
                    become_id(&mut parameter["schema"]);
                } else if name == USER {
                    become_user(&mut parameter["schema"]);
                }
            }
        });
    }

    /// Makes one piece of each schema that has several parts. Generators ignore a part that may be missing.
    fn flatten_all(&mut self) {
        let Some(schemas) = self.schemas() else { return };
        let before = schemas.clone();
        for schema in schemas.values_mut().filter(|schema| schema.get("allOf").is_some()) {
            let mut whole = json!({"type": "object", "required": [], "properties": {}});
            merge(schema, &before, true, &mut whole);
            if let Some(description) = schema.get_mut("description") {
                whole["description"] = description.take();
            }
            *schema = whole;
        }
    }

    /// Says that an object without named fields may have any fields.
    fn free_objects(&mut self) {
        if let Some(board) = self.schemas().and_then(|schemas| schemas.get_mut("BoardSlot")) {
            // Staff's data stands beside the board's own fields.
            board["additionalProperties"] = json!(true);
        }
        free(&mut self.components);
        free(&mut self.paths);
    }

    /// Describes defaults of requests in words, because a generator may require a field that has a default.
    fn describe_defaults(&mut self) {
        let requests = self.schemas().into_iter().flatten().filter(|(name, _)| name.ends_with(REQUEST));
        let properties = requests.filter_map(|(_, schema)| schema.get_mut("properties")?.as_object_mut());
        for schema in properties.flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
            if let Some(default) = schema.remove("default") {
                let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
                schema.insert("description".into(), format!("{description} Default: {default}.").trim().into());
            }
        }
    }

    /// Refers to the schema of an answer's `data` by name, instead of an unnamed copy.
    fn name_data(&mut self) {
        let Some(schemas) = self.schemas() else { return };
        let names: Vec<String> = schemas.keys().filter_map(|name| name.strip_prefix(SUCCESS)).map(Into::into).collect();
        for name in names.iter().filter(|name| schemas.contains_key(*name)).cloned().collect::<Vec<_>>() {
            if let Some(answer) = schemas.get_mut(&format!("{SUCCESS}{name}")) {
                answer["properties"]["data"] = json!({"$ref": format!("{SCHEMAS}{name}")});
            }
        }
    }

    fn drop_unused(&mut self) {
        let mut used = BTreeSet::new();
        let mut found = names_in(&self.paths);
        while let Some(name) = found.pop() {
            if let Some(schema) = self.components.pointer(&format!("/schemas/{name}"))
                && used.insert(name)
            {
                found.extend(names_in(schema));
            }
        }
        if let Some(schemas) = self.schemas() {
            schemas.retain(|name, _| used.contains(name));
        }
    }
}

/// Adds the fields of a part to the whole. Fields of an alternative part may be missing.
fn merge(part: &Value, schemas: &Map<String, Value>, is_always: bool, whole: &mut Value) {
    let named = part.get("$ref").and_then(Value::as_str).and_then(|name| schemas.get(name.strip_prefix(SCHEMAS)?));
    let part = named.unwrap_or(part);
    for inner in part.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        merge(inner, schemas, is_always, whole);
    }
    for inner in part.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        merge(inner, schemas, false, whole);
    }
    if let (Some(own), Some(all)) =
        (part.get("properties").and_then(Value::as_object), whole["properties"].as_object_mut())
    {
        all.extend(own.clone());
    }
    if let (true, Some(own), Some(all)) =
        (is_always, part.get("required").and_then(Value::as_array), whole["required"].as_array_mut())
    {
        all.extend(own.iter().cloned());
    }
}

/// Adds to every object without named fields that it may have any fields.
fn free(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_object = match fields.get("type") {
                Some(Value::String(kind)) => kind == "object",
                Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
                _ => false,
            };
            if is_object && !fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), json!(true));
            }
            fields.values_mut().for_each(free);
        }
        Value::Array(items) => items.iter_mut().for_each(free),
        _ => {}
    }
}

/// The names of the schemas that a part of the document refers to.
fn names_in(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(SCHEMAS));
            own.map(Into::into).into_iter().chain(fields.values().flat_map(names_in)).collect()
        }
        Value::Array(items) => items.iter().flat_map(names_in).collect(),
        _ => Vec::new(),
    }
}

fn for_each_operation(paths: &mut Value, change: impl FnMut(&mut Value)) {
    let paths = paths.as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut).for_each(change);
}

fn become_id(schema: &mut Value) {
    become_one_of(schema, json!({"type": ["integer", "string"], "minimum": 1, "pattern": "^[1-9][0-9]*$"}));
}

fn become_user(schema: &mut Value) {
    become_one_of(schema, json!({"type": ["integer", "string"]}));
}

/// Replaces a schema, and keeps its description.
fn become_one_of(schema: &mut Value, mut other: Value) {
    if let Some(description) = schema.get_mut("description") {
        other["description"] = description.take();
    }
    *schema = other;
}

fn closure_schema() -> Value {
    const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let day = json!({"type": "string", "format": "date"});
    json!({
        "description": "Days without slots: one day, a stretch of days, or a day of every week.",
        "oneOf": [
            day,
            {
                "type": "object", "title": "ClosedDays", "required": ["from", "to"],
                "properties": {"from": day, "to": day}
            },
            {
                "type": "object", "title": "ClosedWeekday", "required": ["weekday"],
                "properties": {"weekday": {"type": "string", "enum": DAYS}}
            }
        ]
    })
}

/// Says whether a call takes a token, and adds its example.
fn finish_operation(operation: &mut Value) {
    if operation.get("security").is_none() {
        operation["security"] = json!([]);
    }
    let Some(example) = operation["operationId"].as_str().and_then(example_of) else { return };
    let place = if operation.get("requestBody").is_some() { "/requestBody" } else { "/responses/200" };
    if let Some(content) = operation.pointer_mut(&format!("{place}/content/application~1json")) {
        content["example"] = example;
    }
}

/// The example of the call's request body, or of the answer's body if the call has no request body.
fn example_of(operation: &str) -> Option<Value> {
    let success = |data: Value| json!({"success": true, "data": data});
    let (epoch, date) = ("8f14e45fceea167a5a36dedd4bea2543", "2026-12-01");
    let ended = "2026-12-01T08:15:00.000Z";
    let space = json!({
        "sedeId": 1, "spazioId": 7, "name": "Sala 7", "timezone": "Europe/Rome", "opens": "08:00", "closes": "20:00",
        "slotMinutes": 30, "closures": ["2026-12-25", {"weekday": "sunday"}], "registered": true, "epoch": epoch, "version": 3
    });
    Some(match operation {
        "read_board" => success(json!({
            "idSpazio": 7, "sedeId": 1, "date": date, "count": 1, "epoch": epoch, "version": 12,
            "slots": [{"id_slot": 1, "orario": "09:00", "status": "available", "title": "Slot disponibile"}]
        })),
        "hold_slot" | "extend_slot" => json!({"idSpazio": 7, "sedeId": 1, "date": date, "holdSeconds": 120}),
        "book_slot" | "release_slot" => json!({"idSpazio": 7, "sedeId": 1, "date": date}),
        "hold_slots" | "extend_slots" => {
            json!({"idSpazio": 7, "sedeId": 1, "date": date, "slots": [2, 3], "holdSeconds": 120})
        }
        "book_slots" | "release_slots" => json!({"idSpazio": 7, "sedeId": 1, "date": date, "slots": [2, 3]}),
        "update_slot" => {
            json!({"idSpazio": 7, "sedeId": 1, "date": date, "status": "blocked", "data": {"note": "manutenzione"}})
        }
        "update_slots" => {
            json!({"idSpazio": 7, "sedeId": 1, "date": date, "slots": [2, 3], "status": "booked", "id_utente": 7})
        }
        "list_bookings" => success(json!({"bookings": [{
            "spazioId": 7, "sedeId": 1, "date": date, "slotId": 2, "orario": "10:00", "startsAt": "2026-12-01T09:00:00.000Z",
            "endsAt": "2026-12-01T10:00:00.000Z", "bookedAt": ended, "cancelUntil": null
        }]})),
        "list_spaces" => success(json!({"spaces": [{
            "sedeId": 1, "spazioId": 7, "name": "Sala 7", "timezone": "Europe/Rome", "opens": "08:00", "closes": "20:00",
            "slotMinutes": 30
        }]})),
        "list_holds" => success(json!({"holds": [{
            "holdToken": "0".repeat(32), "sedeId": 1, "spazioId": 7, "date": date, "slots": [2, 3], "heldUntil": ended,
            "expires_at": ended
        }]})),
        "list_changes" => success(json!({
            "epoch": epoch, "version": 13, "changes": [{"version": 13, "event": "space_changed", "payload": null}]
        })),
        "read_journal" => success(json!({
            "entries": [{
                "id": format!("{epoch}-1-7-13"), "at": "2026-12-01T07:00:00.000Z", "act": "hold",
                "actor": {"id": 7, "role": null}, "id_utente": 7, "sedeId": 1, "spazioId": 7, "date": date,
                "slots": [2, 3], "status": "occupied", "epoch": epoch, "version": 13,
                "requestId": "0af7651916cd43dd8448eb211c80319c"
            }],
            "next": "AAECAw", "more": false
        })),
        "read_stats" => success(json!({
            "connectedUsers": 2, "totalSockets": 3, "rooms": ["spazio_7_sede_1"], "roomCount": 1,
            "nodes": [{
                "id": "a1b2c3d4e5f60718", "address": "10.0.0.7:3000", "version": "0.2.0",
                "startedAt": "2026-12-01T07:00:00.000Z", "sockets": 3, "users": 2, "rooms": 1
            }]
        })),
        "put_space" => json!({
            "name": "Sala 7", "timezone": "Europe/Rome", "opens": "08:00", "closes": "20:00", "slotMinutes": 30,
            "closures": ["2026-12-25", {"from": "2026-08-10", "to": "2026-08-21"}, {"weekday": "sunday"}]
        }),
        "read_space" | "delete_space" => success(space),
        "show_board" => json!({"date": date}),
        "notify_user" => json!({"event": "booking_confirmed", "data": {"date": date, "slots": [2, 3]}}),
        "broadcast" => json!({"event": "news", "data": {"text": "Domani chiuso"}}),
        "export_user" => success(json!({
            "id_utente": 7, "holds": [], "bookings": [{
                "spazioId": 7, "sedeId": 1, "date": date, "slotId": 2, "orario": "10:00",
                "startsAt": "2026-12-01T09:00:00.000Z", "endsAt": "2026-12-01T10:00:00.000Z", "bookedAt": ended,
                "cancelUntil": null
            }],
            "notifications": [{"sequence": 1_796_112_000_000_u64, "event": "news", "data": {"text": "Domani chiuso"}}],
            "sequences": {"lastSent": 1_796_112_000_000_u64, "lastReceived": 0}, "calls": [], "journal": []
        })),
        "erase_user" => success(json!({"released": 1, "cancelled": 0})),
        "disconnect_user" => success(json!({"id_utente": 7})),
        "sweep" => success(json!({"freed": 2, "spaces": 1, "oldestLateMs": 40, "tookMs": 12})),
        "read_openapi" => json!({"openapi": "3.1.0"}),
        "check_alive" | "check_ready" => json!({"status": "ok", "obstacles": []}),
        _ => return None,
    })
}
