//! The bytes of what is published.

use super::*;

/// The payload of a message as the domain makes it, with the instant that the message's payload has.
pub(super) fn expected_payload(message: &Message, slot: &SlotTime, state: SlotState, freed: bool) -> String {
    let payload: serde_json::Value = serde_json::from_str(message.payload.get()).unwrap();
    let now: jiff::Timestamp = payload["timestamp"].as_str().unwrap().parse().unwrap();
    let change = Change { slot: slot.clone(), state, freed };
    slot_update(space(1), day(), &change, &message.at, now.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_byte_for_byte_what_the_domain_makes() {
    let factory = OnRedis::start().await;
    let store = store_at(&factory.server.url(), &factory.prefix);
    let topic = Topic::Space(space(1));
    let object = "{\"note\": \"\u{20ac} \\u0041 \\\"/\\\" \u{1f600}\", \"price\": 12345678901234567890.10,\n \"status\": \"mine\", \"a/b\\n\": [ 1,\n 2 ], \"empty\": {}}";
    let data = SlotData::new(serde_json::from_str(object).unwrap());
    let empty = SlotData::new(serde_json::from_str("{}").unwrap());
    let with = |to, data: &SlotData| SlotActKind::Update { to, data: Some(data.clone()), user: None };
    let kinds = [
        hold("a", MINUTE),
        extend("a", 2 * MINUTE),
        book("a"),
        with(StaffStatus::Booked, &data),
        with(StaffStatus::Blocked, &empty),
        with(StaffStatus::Available, &data),
        with(StaffStatus::Available, &empty),
        set(StaffStatus::Available),
        hold("b", MINUTE),
        release("b"),
    ];
    for kind in kinds {
        let before = head(&store, topic).await;
        store.apply(act(1, &[7], kind.clone())).await.unwrap();
        let read = store.read_day(space(1), day()).await.unwrap();
        let record = read.records.get(&slot(7).number);
        let state = record.map_or(SlotState::Available { data: None }, |record| record.state.clone());
        let said = messages(&store, topic, &before).await;
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].payload.get(), expected_payload(&said[0], &slot(7), state, false), "{kind:?}");
    }

    // Holds that end by themselves, of slots in the future and in the past. An act or a sweep finds them.
    for by_act in [true, false] {
        let now = store.ping().await.unwrap();
        let near = SlotTime { start: now.plus_millis(2_000), ..slot(8) };
        let held = [(slot(7), 20), (near.clone(), MINUTE)];
        for (slot, millis) in held {
            store.apply(SlotAct { slots: vec![slot], ..act(1, &[], hold("c", millis)) }).await.unwrap();
        }
        while store.ping().await.unwrap() <= near.start {}
        let before = head(&store, topic).await;
        if by_act {
            let set_free = |slots| SlotAct { slots, ..act(1, &[], set(StaffStatus::Available)) };
            store.apply(set_free(vec![slot(7), near.clone()])).await.unwrap_err();
            store.apply(act(1, &[7], set(StaffStatus::Available))).await.unwrap();
        }
        store.sweep(space(1).bucket(), 10).await.unwrap();
        let said = messages(&store, topic, &before).await;
        let free = SlotState::Available { data: None };
        for message in &said {
            let slot = if message.payload.get().contains("\"slotId\":8") { &near } else { &slot(7) };
            assert_eq!(message.payload.get(), expected_payload(message, slot, free.clone(), true));
        }
        assert!(said.iter().any(|message| message.payload.get().contains("\"status\":\"past\"")));
        assert_eq!(said.len(), if by_act { 3 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instant_is_written_as_everywhere_else() {
    let factory = OnRedis::start().await;
    let store = store_at(&factory.server.url(), &factory.prefix);
    let topic = Topic::Space(space(1));
    let dates = [
        "2028-02-29T23:59:59.999Z",
        "2032-03-01T00:00:00.000Z",
        "2099-12-31T23:00:00.001Z",
        "2100-03-01T12:34:56.070Z",
        "2400-02-29T00:00:00.000Z",
        "9998-12-31T23:59:59.999Z",
    ];
    for date in dates {
        let start: jiff::Timestamp = date.parse().unwrap();
        let slot = SlotTime { start: start.into(), ..slot(1) };
        let before = head(&store, topic).await;
        let hold = SlotAct { slots: vec![slot.clone()], ..act(1, &[], hold("a", i64::MAX / 4_096)) };
        store.apply(hold).await.unwrap();
        let said = messages(&store, topic, &before).await;
        let payload: serde_json::Value = serde_json::from_str(said[0].payload.get()).unwrap();
        assert_eq!(payload["data"]["held_until"], date);
        store.apply(SlotAct { slots: vec![slot], ..act(1, &[], release("a")) }).await.unwrap();
    }
}
