//! Weeks of a table's life with a key that is lost, in many ways and with many seeds: the table is
//! dropped in the cases where it may be, and in these always.
//!
//! What may be dropped is judged by a second reading of the rules (`World::assert_may_drop`), from the
//! list of all answers; it shares nothing with the state machine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test that cannot go on ends; the cases are one list"
)]

use coffer_health::{
    Answer, DAY_MILLIS as DAY, Due, HOUR_MILLIS as HOUR, HealthEvent, Moment, Observation, Policy,
    TableHealth,
};

const SEEDS: u64 = 100;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOME: &str = "embedded home coffer-data";
const AWAY: &str = "aws elsewhere somebody";

/// Numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + (self.next() % (to - from).unsigned_abs()) as i64
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Snapshots {
    Work,
    CannotBeTaken,
    CannotBeVerified,
    WorkAtTheThirdTry,
}

/// What the world is like, by the time since the loss.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// What the KMS says, and who it is.
    kms: fn(&mut Random, i64) -> (Answer, Option<&'static str>),
    delete_after: fn(i64) -> Option<i64>,
    snapshots: Snapshots,
    /// Between stops of the process; and how long it is down, and what the wall clock does meanwhile.
    restart_every: Option<i64>,
    down: i64,
    jump: i64,
    /// Jumps of the wall clock while the process runs.
    running_jump: i64,
    /// The process dies at each step of the monitor with this chance, in percent.
    crashes: u64,
    days: i64,
    /// Time since the loss from when on, and until when, the drop must come; or that it must not.
    dropped: Option<(i64, i64)>,
}

fn refused(_: &mut Random, _: i64) -> (Answer, Option<&'static str>) {
    (Answer::Refused, Some(HOME))
}

fn unclear(_: &mut Random, _: i64) -> (Answer, Option<&'static str>) {
    (Answer::Unclear, Some(HOME))
}

fn seven_days(_: i64) -> Option<i64> {
    Some(7 * DAY)
}

/// Time for the last probes of a drop.
const SLACK: i64 = 30 * MINUTE;

const LOST: Case = Case {
    name: "lost for good",
    kms: refused,
    delete_after: seven_days,
    snapshots: Snapshots::Work,
    restart_every: None,
    down: 0,
    jump: 0,
    running_jump: 0,
    crashes: 0,
    days: 9,
    dropped: Some((7 * DAY, 7 * DAY + SLACK)),
};

const KEPT: Case = Case { dropped: None, days: 16, ..LOST };

fn cases() -> Vec<Case> {
    vec![
        LOST,
        Case { name: "wall clock jumps 8 days ahead while running", running_jump: 8 * DAY, ..LOST },
        Case { name: "wall clock jumps 8 days back while running", running_jump: -8 * DAY, ..LOST },
        // each stop is credited as the wall clock says, none is when it went back
        Case { name: "restart each hour", restart_every: Some(HOUR), down: MINUTE, ..LOST },
        Case {
            name: "restart each hour, the clock 8 days back each time",
            restart_every: Some(HOUR),
            jump: -8 * DAY,
            // nothing is credited for a stop, nor for what was not noted before it
            days: 12,
            dropped: Some((7 * DAY, 9 * DAY)),
            ..LOST
        },
        Case {
            name: "one restart with the clock 8 days ahead: a day is credited",
            restart_every: Some(3 * DAY),
            down: MINUTE,
            jump: 8 * DAY,
            dropped: Some((6 * DAY, 6 * DAY + SLACK)),
            ..LOST
        },
        Case {
            name: "a stop of 8 days: a day is credited",
            restart_every: Some(6 * DAY + 12 * HOUR),
            down: 8 * DAY,
            days: 20,
            dropped: Some((14 * DAY + 12 * HOUR, 14 * DAY + 12 * HOUR + SLACK)),
            ..LOST
        },
        Case {
            name: "flapping key",
            kms: |_, at| {
                let is_up = at % (3 * DAY) > 3 * DAY - HOUR;
                (if is_up { Answer::Usable } else { Answer::Refused }, Some(HOME))
            },
            ..KEPT
        },
        Case {
            name: "flapping within each hour",
            kms: |random, _| {
                (if random.chance(30) { Answer::Usable } else { Answer::Refused }, Some(HOME))
            },
            ..KEPT
        },
        Case { name: "ambiguous answers only", kms: unclear, ..KEPT },
        Case {
            name: "throttling only, with clients that were let through",
            kms: |random, _| {
                (if random.chance(5) { Answer::Usable } else { Answer::Unclear }, Some(HOME))
            },
            ..KEPT
        },
        Case {
            name: "credentials only: nobody knows who asked",
            kms: |_, _| (Answer::Unclear, None),
            ..KEPT
        },
        Case { name: "refused by nobody knows whom", kms: |_, _| (Answer::Refused, None), ..KEPT },
        Case { name: "snapshot cannot be taken", snapshots: Snapshots::CannotBeTaken, ..KEPT },
        Case {
            name: "snapshot cannot be verified",
            snapshots: Snapshots::CannotBeVerified,
            ..KEPT
        },
        Case {
            name: "snapshot works at the third try",
            snapshots: Snapshots::WorkAtTheThirdTry,
            dropped: Some((7 * DAY, 7 * DAY + 4 * SLACK)),
            ..LOST
        },
        Case {
            name: "endpoint changed before the loss",
            kms: |_, _| (Answer::Refused, Some(AWAY)),
            ..KEPT
        },
        Case {
            name: "endpoint changed in the middle",
            kms: |_, at| (Answer::Refused, Some(if at < 3 * DAY { HOME } else { AWAY })),
            ..KEPT
        },
        Case {
            name: "endpoint changed and changed back",
            kms: |_, at| {
                let is_away = (2 * DAY..8 * DAY).contains(&at);
                (Answer::Refused, Some(if is_away { AWAY } else { HOME }))
            },
            days: 12,
            dropped: Some((8 * DAY, 8 * DAY + SLACK)),
            ..LOST
        },
        Case { name: "never", delete_after: |_| None, ..KEPT },
        Case {
            name: "never, then seven days: one more day at least",
            delete_after: |at| (at >= 9 * DAY).then_some(7 * DAY),
            days: 12,
            dropped: Some((10 * DAY, 10 * DAY + SLACK)),
            ..LOST
        },
        Case {
            name: "two days, then seven",
            delete_after: |at| Some(if at < DAY { 2 * DAY } else { 7 * DAY }),
            ..LOST
        },
        Case {
            name: "seven days, then never",
            delete_after: |at| (at < 6 * DAY + 23 * HOUR).then_some(7 * DAY),
            ..KEPT
        },
        Case {
            name: "crash at each step of the monitor",
            crashes: 20,
            dropped: Some((7 * DAY, 7 * DAY + 8 * SLACK)),
            ..LOST
        },
        Case {
            name: "back one second before the end",
            kms: |_, at| {
                let is_lost = at < 7 * DAY - SECOND;
                (if is_lost { Answer::Refused } else { Answer::Usable }, Some(HOME))
            },
            ..KEPT
        },
        Case {
            name: "lost, doubt for days, one more refusal, doubt until the end",
            kms: |_, at| {
                let is_clear = at < 2 * SECOND || (6 * DAY..6 * DAY + 20 * MINUTE).contains(&at);
                (if is_clear { Answer::Refused } else { Answer::Unclear }, Some(HOME))
            },
            ..KEPT
        },
        Case {
            name: "doubt at the deadline, a refusal a day later",
            kms: |_, at| {
                let is_clear = !(5 * DAY..8 * DAY).contains(&at);
                (if is_clear { Answer::Refused } else { Answer::Unclear }, Some(HOME))
            },
            days: 10,
            dropped: Some((8 * DAY, 8 * DAY + SLACK)),
            ..LOST
        },
        Case {
            name: "doubt for days once the snapshot is verified",
            kms: |_, at| {
                let is_clear = !(7 * DAY + 6 * SECOND..12 * DAY).contains(&at);
                (if is_clear { Answer::Refused } else { Answer::Unclear }, Some(HOME))
            },
            restart_every: Some(2 * DAY),
            down: MINUTE,
            days: 14,
            dropped: Some((7 * DAY, 12 * DAY + SLACK)),
            ..LOST
        },
        Case {
            name: "12 hours",
            delete_after: |_| Some(12 * HOUR),
            days: 2,
            dropped: Some((12 * HOUR, 12 * HOUR + SLACK)),
            ..LOST
        },
    ]
}

/// One answer that was taken in.
#[derive(Clone, Copy)]
struct Entry {
    age: i64,
    process: u32,
    answer: Answer,
    identity: Option<&'static str>,
}

/// What is on disk: the state, the age and when it was noted, the snapshots.
#[derive(Clone, Default)]
struct Disk {
    health: String,
    age: i64,
    noted_at: i64,
    snapshots: Vec<[u8; 16]>,
    /// What the state on disk rests on.
    entries: usize,
}

struct World {
    case: Case,
    random: Random,
    /// True time, and what the wall clock says besides.
    now: i64,
    wall_offset: i64,
    started: i64,
    start_age: i64,
    process: u32,
    disk: Disk,
    health: TableHealth,
    log: Vec<Entry>,
    verified: Option<(i64, [u8; 16])>,
    tries: u32,
    retry_at: i64,
    events: Vec<(i64, HealthEvent)>,
    dropped: Option<i64>,
}

impl World {
    fn new(case: Case, seed: u64) -> World {
        let health = TableHealth::trusting(HOME);
        let disk = Disk { health: serde_json::to_string(&health).unwrap(), ..Disk::default() };
        World {
            case,
            random: Random(seed),
            now: 0,
            wall_offset: 1_700_000_000_000,
            started: 0,
            start_age: 0,
            process: 0,
            disk,
            health,
            log: Vec::new(),
            verified: None,
            tries: 0,
            retry_at: 0,
            events: Vec::new(),
            dropped: None,
        }
    }

    fn age(&self) -> i64 {
        self.start_age + (self.now - self.started)
    }

    fn wall(&self) -> i64 {
        self.now + self.wall_offset
    }

    fn moment(&mut self) -> Moment {
        let number = self.random.next().to_be_bytes();
        let mut incident = [0; 16];
        incident[..8].copy_from_slice(&number);
        Moment {
            age_millis: self.age(),
            start_age_millis: self.start_age,
            wall_millis: self.wall(),
            incident,
        }
    }

    fn policy(&self) -> Policy {
        Policy { delete_after_millis: (self.case.delete_after)(self.now), ..Policy::default() }
    }

    fn persist(&mut self) {
        self.disk.health = serde_json::to_string(&self.health).unwrap();
        self.disk.age = self.age();
        self.disk.noted_at = self.wall();
        self.disk.entries = self.log.len();
    }

    /// The process ends; what was not persisted is as if it had never been heard.
    fn restart(&mut self, down: i64, jump: i64) {
        self.now += down;
        self.wall_offset += jump;
        let stopped = (self.wall() - self.disk.noted_at).clamp(0, DAY);
        self.started = self.now;
        self.start_age = self.disk.age + stopped;
        self.process += 1;
        self.health = serde_json::from_str(&self.disk.health).unwrap();
        self.log.truncate(self.disk.entries);
        self.disk.noted_at = self.wall();
        self.disk.age = self.start_age;
        self.retry_at = 0;
    }

    fn crashes(&mut self) -> bool {
        let percent = self.case.crashes;
        let is_crash = self.random.chance(percent);
        if is_crash {
            let down = self.random.between(0, 2 * SECOND);
            self.restart(down, 0);
        }
        is_crash
    }

    /// One probe. False when the process died.
    fn probe(&mut self) -> bool {
        let (answer, identity) = (self.case.kms)(&mut self.random, self.now);
        let (moment, policy) = (self.moment(), self.policy());
        self.log.push(Entry { age: self.age(), process: self.process, answer, identity });
        let told = self.health.observe(&moment, &policy, Observation { answer, identity });
        if self.crashes() {
            return false;
        }
        let (now, count) = (self.now, told.len());
        self.events.extend(told.into_iter().map(|event| (now, event)));
        assert!(count <= 4);
        self.persist();
        !self.crashes()
    }

    fn step(&mut self) {
        if !self.probe() {
            return;
        }
        for _ in 0..8 {
            let (moment, policy) = (self.moment(), self.policy());
            let told = self.health.pass(&moment, &policy);
            let now = self.now;
            self.events.extend(told.into_iter().map(|event| (now, event)));
            let due = self.health.due(&moment);
            let alive = match due {
                Due::Nothing => return,
                Due::Probe => {
                    self.probe()
                        && matches!(
                            self.health.due(&moment),
                            Due::Snapshot | Due::Verify(_) | Due::Drop(_)
                        )
                }
                Due::Snapshot => self.snapshot(),
                Due::Verify(id) => self.verify(id),
                Due::Drop(id) => {
                    self.assert_may_drop(id);
                    self.dropped = Some(self.now);
                    return;
                }
            };
            if !alive {
                return;
            }
        }
    }

    fn snapshot(&mut self) -> bool {
        if self.now < self.retry_at {
            return false;
        }
        if self.case.snapshots == Snapshots::CannotBeTaken {
            self.health.snapshot_failed();
            self.retry_at = self.now + 10 * MINUTE;
            return false;
        }
        let id = self.moment().incident;
        // of an incident there is one
        self.disk.snapshots = vec![id];
        if self.crashes() {
            return false;
        }
        self.health.snapshot_taken(id);
        self.persist();
        !self.crashes()
    }

    fn verify(&mut self, id: [u8; 16]) -> bool {
        self.tries += 1;
        let works = match self.case.snapshots {
            Snapshots::Work => true,
            Snapshots::WorkAtTheThirdTry => self.tries >= 3,
            _ => false,
        };
        if !works || !self.disk.snapshots.contains(&id) {
            self.disk.snapshots.retain(|other| *other != id);
            self.health.snapshot_failed();
            self.persist();
            self.retry_at = self.now + 10 * MINUTE;
            return false;
        }
        self.now += self.random.between(0, 2 * SECOND);
        let moment = self.moment();
        self.health.snapshot_verified(&moment);
        self.verified = Some((moment.age_millis, id));
        self.persist();
        !self.crashes()
    }

    /// The rules, read a second time.
    fn assert_may_drop(&self, snapshot: [u8; 16]) {
        let name = self.case.name;
        let wait = (self.case.delete_after)(self.now).expect(name);
        let after_usable = self
            .log
            .iter()
            .rposition(|entry| entry.answer == Answer::Usable)
            .map_or(0, |at| at + 1);
        let trusted = self.log[..after_usable]
            .iter()
            .rev()
            .find(|entry| entry.answer == Answer::Usable)
            .map_or(Some(HOME), |entry| entry.identity);
        let counts = |entry: &&Entry| entry.answer == Answer::Refused && entry.identity == trusted;
        let refusals: Vec<_> = self.log[after_usable..].iter().filter(counts).collect();
        let first = refusals.first().expect(name).age;
        assert!(self.age() >= first + wait, "{name}: {} of {wait}", self.age() - first);
        let mut counted = 1;
        let mut last = first;
        for refusal in &refusals {
            if refusal.age - last >= 5 * SECOND {
                counted += 1;
                last = refusal.age;
            }
        }
        assert!(counted >= 3, "{name}: {counted} confirmations");
        let (verified_at, verified) = self.verified.expect(name);
        assert_eq!(verified, snapshot, "{name}");
        assert!(verified_at >= self.start_age, "{name}: verified by an earlier process");
        assert!(self.age() - verified_at <= DAY, "{name}: verified long ago");
        assert!(self.disk.snapshots.contains(&snapshot), "{name}");
        let last = refusals.last().expect(name);
        assert!(last.process == self.process, "{name}: no refusal since the start");
        assert!(self.age() - last.age <= 30 * SECOND, "{name}: the last refusal is old");
        assert!(last.age >= first + wait && last.age >= verified_at, "{name}: no fresh refusal");
    }
}

/// Runs a case; the steps of the last minutes before `moments` are short.
fn run(case: Case, seed: u64) -> World {
    let mut world = World::new(case, seed);
    let mut restarts_left = if case.jump > 0 || case.down > HOUR { 1 } else { u32::MAX };
    let mut next_restart = case.restart_every;
    let mut jumped = false;
    let exact: Vec<i64> = case.dropped.map(|(from, _)| from).into_iter().chain([7 * DAY]).collect();
    while world.now < case.days * DAY && world.dropped.is_none() {
        world.step();
        let pause = world.random.between(2 * MINUTE, 10 * MINUTE);
        let mut until = world.now + pause;
        for moment in &exact {
            for edge in [moment - SECOND, moment + SECOND] {
                if world.now < edge && until > edge {
                    until = edge;
                }
            }
        }
        world.now = until;
        if case.running_jump != 0 && !jumped && world.now > 3 * DAY {
            world.wall_offset += case.running_jump;
            jumped = true;
        }
        if next_restart.is_some_and(|at| world.now >= at) && restarts_left > 0 {
            restarts_left -= 1;
            world.restart(case.down, case.jump);
            next_restart = case.restart_every.map(|every| world.now + every);
        }
    }
    world
}

#[test]
fn a_table_is_dropped_in_the_legal_cases_and_in_these_always() {
    let cases = cases();
    assert!(cases.len() >= 25);
    for case in cases {
        for seed in 0..SEEDS {
            let world = run(case, seed);
            match (case.dropped, world.dropped) {
                (None, None) => {}
                (None, Some(at)) => panic!("{}, seed {seed}: dropped at {at}", case.name),
                (Some(_), None) => panic!("{}, seed {seed}: not dropped", case.name),
                (Some((from, to)), Some(at)) => {
                    // what a crash makes unheard is lost time, at most some probes
                    let least = from;
                    let most = to + if case.restart_every.is_some() { HOUR } else { 0 };
                    let is_legal = (least..=most).contains(&at);
                    assert!(is_legal, "{}, seed {seed}: {least} <= {at} <= {most}", case.name);
                }
            }
        }
    }
}

#[test]
fn who_is_told_what_and_once() {
    for seed in 0..SEEDS {
        let world = run(LOST, seed);
        let told: Vec<&HealthEvent> = world.events.iter().map(|(_, event)| event).collect();
        let expected = [HealthEvent::KeyLost, HealthEvent::Reminder(3), HealthEvent::Reminder(1)];
        assert_eq!(told, expected.iter().collect::<Vec<_>>());
        assert!(world.events[0].0 < HOUR);
        assert!((4 * DAY..4 * DAY + SLACK).contains(&world.events[1].0));
        assert!((6 * DAY..6 * DAY + SLACK).contains(&world.events[2].0));
    }
    let outage = Case {
        kms: |_, at| (if at < 5 * DAY { Answer::Unclear } else { Answer::Usable }, Some(HOME)),
        ..KEPT
    };
    let told: Vec<HealthEvent> =
        run(outage, 1).events.into_iter().map(|(_, event)| event).collect();
    assert_eq!(told, [HealthEvent::Unreachable, HealthEvent::Reachable]);
    let back = Case {
        kms: |_, at| (if at < 5 * DAY { Answer::Refused } else { Answer::Usable }, Some(HOME)),
        ..KEPT
    };
    let told: Vec<HealthEvent> = run(back, 1).events.into_iter().map(|(_, event)| event).collect();
    assert_eq!(told, [HealthEvent::KeyLost, HealthEvent::Reminder(3), HealthEvent::Recovered]);
}

fn at(age_millis: i64) -> Moment {
    Moment { age_millis, start_age_millis: 0, wall_millis: age_millis, incident: [7; 16] }
}

fn seen(answer: Answer) -> Observation<'static> {
    Observation { answer, identity: Some(HOME) }
}

/// A table that is inaccessible from age 0 on, with a verified snapshot.
fn ready_to_drop() -> TableHealth {
    let (mut health, policy) = (TableHealth::trusting(HOME), Policy::default());
    for age in [0, 10 * SECOND, 20 * SECOND, 7 * DAY] {
        health.observe(&at(age), &policy, seen(Answer::Refused));
    }
    assert_eq!(health.due(&at(7 * DAY)), Due::Snapshot);
    health.snapshot_taken([9; 16]);
    assert_eq!(health.due(&at(7 * DAY)), Due::Verify([9; 16]));
    health.snapshot_verified(&at(7 * DAY + SECOND));
    health
}

#[test]
fn a_key_that_comes_back_after_the_snapshot_keeps_its_table() {
    let (mut health, policy) = (ready_to_drop(), Policy::default());
    let now = at(7 * DAY + 2 * SECOND);
    assert_eq!(health.due(&now), Due::Probe, "verifying took time, the KMS is asked once more");
    let told = health.observe(&now, &policy, seen(Answer::Usable));
    assert_eq!(told, [HealthEvent::Recovered]);
    assert_eq!((health.due(&now), health.series), (Due::Nothing, None));
}

#[test]
fn the_drop_comes_with_one_more_refusal_after_the_snapshot() {
    let (mut health, policy) = (ready_to_drop(), Policy::default());
    let now = at(7 * DAY + 2 * SECOND);
    for answer in [Answer::Unclear, Answer::Unclear] {
        health.observe(&now, &policy, seen(answer));
        assert_eq!(health.due(&now), Due::Probe);
    }
    health.observe(&now, &policy, seen(Answer::Refused));
    assert_eq!(health.due(&now), Due::Drop([9; 16]));
    // a start takes the refusals of the process before it away
    let text = serde_json::to_string(&health).unwrap();
    let health: TableHealth = serde_json::from_str(&text).unwrap();
    assert_eq!(health.due(&now), Due::Probe);
}

#[test]
fn a_verification_of_long_ago_or_of_an_earlier_process_does_not_count() {
    let (mut health, policy) = (ready_to_drop(), Policy::default());
    let later = at(8 * DAY + 2 * SECOND);
    health.observe(&later, &policy, seen(Answer::Refused));
    assert_eq!(health.due(&later), Due::Verify([9; 16]), "it was verified more than a day ago");
    assert!(!health.snapshot_verified(&later), "told twice");
    health.observe(&later, &policy, seen(Answer::Refused));
    assert_eq!(health.due(&later), Due::Drop([9; 16]));
    let restarted = Moment { start_age_millis: 8 * DAY + 3 * SECOND, ..at(8 * DAY + 4 * SECOND) };
    health.observe(&restarted, &policy, seen(Answer::Refused));
    assert_eq!(health.due(&restarted), Due::Verify([9; 16]));
}

#[test]
fn a_drop_rests_on_a_refusal_of_now() {
    let (mut health, policy) = (ready_to_drop(), Policy::default());
    health.observe(&at(7 * DAY + 2 * SECOND), &policy, seen(Answer::Refused));
    assert_eq!(health.due(&at(7 * DAY + 32 * SECOND)), Due::Drop([9; 16]));
    assert_eq!(health.due(&at(7 * DAY + 33 * SECOND)), Due::Probe);
}

#[test]
fn a_suspicion_does_not_outlive_a_stop() {
    let policy = Policy { delete_after_millis: Some(12 * HOUR), ..Policy::default() };
    let mut health = TableHealth::trusting(HOME);
    health.observe(&at(0), &policy, seen(Answer::Refused));
    for age in [DAY, DAY + 10 * SECOND, DAY + 20 * SECOND] {
        health.observe(&at(age), &policy, seen(Answer::Refused));
    }
    assert_eq!(health.deadline_age(), Some(DAY + 12 * HOUR), "its time began before it was seen");
    assert_eq!(health.due(&at(DAY + 20 * SECOND)), Due::Nothing);
}

#[test]
fn one_second_decides() {
    let policy = Policy::default();
    let mut health = TableHealth::trusting(HOME);
    for age in [0, 10 * SECOND, 20 * SECOND, 7 * DAY - SECOND] {
        health.observe(&at(age), &policy, seen(Answer::Refused));
    }
    assert_eq!(health.due(&at(7 * DAY - SECOND)), Due::Nothing);
    assert_eq!(
        health.due(&at(7 * DAY)),
        Due::Probe,
        "a refusal before the deadline does not count"
    );
    health.observe(&at(7 * DAY), &policy, seen(Answer::Refused));
    assert_eq!(health.due(&at(7 * DAY)), Due::Snapshot);
}

#[test]
fn clients_that_hammer_confirm_nothing() {
    let (mut health, policy) = (TableHealth::trusting(HOME), Policy::default());
    for millis in 0..4_999 {
        assert!(health.observe(&at(millis), &policy, seen(Answer::Refused)).is_empty());
    }
    assert_eq!(health.series.as_ref().unwrap().confirmations, 1);
}

#[test]
fn without_a_first_success_refusals_only_warn() {
    let (mut health, policy) = (TableHealth::default(), Policy::default());
    for age in 0..100 {
        health.observe(&at(age * HOUR), &policy, seen(Answer::Refused));
    }
    assert!(health.series.is_none() && health.outage.is_some());
    health.observe(&at(101 * HOUR), &policy, seen(Answer::Usable));
    health.observe(&at(102 * HOUR), &policy, seen(Answer::Refused));
    assert!(health.series.is_some() && health.outage.is_none());
}

#[test]
fn a_blocked_drop_is_told_once() {
    let mut health = ready_to_drop();
    assert!(health.snapshot_failed());
    health.snapshot_taken([8; 16]);
    assert!(!health.snapshot_failed());
}
