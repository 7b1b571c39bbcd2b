//! Many acts at once.

use super::*;

/// What an act did. The key of the map has the last version of the act.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    who: usize,
    act: &'static str,
    slots: Vec<u64>,
}

pub async fn random_acts_of_many_never_collide(factory: impl StoreFactory) {
    const TASKS: usize = 64;
    const ACTS: usize = 20;
    const SPACES: u64 = 3;
    let bench = Arc::new(bench(&factory).await);
    let mut tasks = tokio::task::JoinSet::new();
    for who in 0..TASKS {
        let bench = bench.clone();
        tasks.spawn(async move {
            let mut random = Random(0x9E37_79B9 + who as u64);
            let mut done = Vec::new();
            let mut booked = BTreeSet::new();
            for _ in 0..ACTS {
                let in_space = 1 + random.below(SPACES);
                let first = 1 + random.below(4);
                let slots: Vec<u64> = (first..=first + random.below(2)).collect();
                let name = format!("u{who}");
                let token = HoldToken::from_random(random.bytes());
                let (act, kind) = match random.below(10) {
                    0..5 => ("hold", {
                        let millis = 1 + random.below(60) as i64;
                        SlotActKind::Hold {
                            user: user(&name),
                            token: token.clone(),
                            millis,
                            max_holds: None,
                            max_held: None,
                        }
                    }),
                    // Each slot is booked once. A second booking may be a repeat, which answers with another act's
                    // version.
                    5 if slots.iter().all(|slot| booked.insert((in_space, *slot))) => ("book", book_by(&name)),
                    6 => ("clear", {
                        let (actor, booked_by) = (Actor::Anyone, Some(Actor::Anyone));
                        SlotActKind::Release { actor, token: None, booked_by, cancel_before: None }
                    }),
                    5..8 => ("release", release_by(&name)),
                    _ => ("extend", extend_by(&name, 1 + random.below(40) as i64)),
                };
                match bench.apply(space(in_space), &slots, kind).await {
                    // The answer has another token than the act, so it is the answer to an earlier hold.
                    Ok(outcome) if act == "hold" && outcome.hold.as_ref().unwrap().token != token => {}
                    Ok(outcome) => done.push((in_space, outcome.at.version, Done { who, act, slots })),
                    Err(ApplyError::Refused(_)) => {}
                    Err(other) => panic!("{other}"),
                }
                if random.below(4) == 0 {
                    bench.store.sweep(space(in_space).bucket(), 2).await.unwrap();
                }
            }
            done
        });
    }
    let mut acts: BTreeMap<(u64, u64), Done> = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        for (in_space, version, act) in done.unwrap() {
            let known = acts.entry((in_space, version)).or_insert_with(|| act.clone());
            assert_eq!(*known, act, "version {version} was answered to two different acts");
        }
    }
    assert!(acts.len() > 50, "only {} acts were done", acts.len());
    for in_space in 1..=SPACES {
        replay(&bench, in_space, &acts).await;
    }
}

/// Replays a space's log. Checks each event against the act that made it, and the last state against the board.
pub(super) async fn replay(bench: &Bench, in_space: u64, acts: &BTreeMap<(u64, u64), Done>) {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Has {
        Held(usize),
        Booked(usize),
    }
    // An event belongs to the act whose last version is the event's, or follows soon. An event without an act is a
    // freed slot.
    let mut doers: BTreeMap<u64, &Done> = BTreeMap::new();
    for ((_, version), done) in acts.range((in_space, 0)..=(in_space, u64::MAX)) {
        for version in version + 1 - done.slots.len() as u64..=*version {
            assert!(doers.insert(version, done).is_none(), "version {version} belongs to two acts");
        }
    }
    let mut board: BTreeMap<u64, Has> = BTreeMap::new();
    let messages = bench.log(Topic::Space(space(in_space)), 0).await;
    for (message, version) in messages.iter().zip(1..) {
        assert_eq!(message.at.version, version);
        let payload = json(&message.payload);
        let (slot, status) = slot_and_status(&payload);
        let had = board.remove(&slot);
        let Some(done) = doers.get(&version) else {
            assert!(matches!(had, Some(Has::Held(_))), "freed {had:?} at {version}");
            assert_eq!(status, "available");
            continue;
        };
        assert!(done.slots.contains(&slot));
        match done.act {
            "hold" => assert_eq!(had, None, "held twice at {version}"),
            "clear" => assert!(had.is_some(), "cleared nothing at {version}"),
            act => assert_eq!(had, Some(Has::Held(done.who)), "{act} at {version}"),
        }
        match done.act {
            "hold" | "extend" => board.insert(slot, Has::Held(done.who)),
            "book" => board.insert(slot, Has::Booked(done.who)),
            _ => None,
        };
    }
    let read = bench.store.read_day(space(in_space), day()).await.unwrap();
    assert_eq!(read.at.version, messages.len() as u64);
    let who = |user: &UserId| user.as_str().trim_start_matches('u').parse().unwrap();
    let stored = read.records.iter().filter_map(|(number, record)| match &record.state {
        SlotState::Held(hold) => Some((u64::from(number.get()), Has::Held(who(&hold.user)))),
        SlotState::Booked { user, .. } => Some((u64::from(number.get()), Has::Booked(who(user.as_ref().unwrap())))),
        _ => None,
    });
    assert_eq!(stored.collect::<BTreeMap<_, _>>(), board);
}

/// Xorshift. Each run has the same acts, and only their order differs.
pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }
}
