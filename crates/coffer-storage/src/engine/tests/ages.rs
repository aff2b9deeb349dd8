//! The age of a data directory, with clocks that jump.

use super::*;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
pub(super) const START: i64 = 1_700_000_000_000;

fn publish(engine: &Engine) {
    engine.update_catalog(&mut |catalog| Ok(catalog.clone())).unwrap();
}

#[test]
fn the_age_grows_while_the_engine_runs_and_a_stop_counts_up_to_a_day() {
    let house = House::new();
    let clock = ManualClock::at(START);
    let engine = house.open_at(&clock);
    assert_eq!(engine.age_millis(), 0);
    clock.advance(2 * DAY);
    publish(&engine);
    assert_eq!(engine.age_millis(), 2 * DAY);
    drop(engine);
    clock.advance(3 * HOUR);
    let engine = house.open_at(&clock);
    assert_eq!(engine.age_millis(), 2 * DAY + 3 * HOUR);
    drop(engine);
    clock.advance(40 * DAY);
    let engine = house.open_at(&clock);
    assert_eq!(engine.age_millis(), 3 * DAY + 3 * HOUR);
}

#[test]
fn jumps_of_the_wall_clock_count_for_at_most_a_day_and_never_backwards() {
    let house = House::new();
    let engine = house.open_at(&ManualClock::at(START));
    publish(&engine);
    drop(engine);
    let engine = house.open_at(&ManualClock::at(START + 8 * DAY));
    assert_eq!(engine.age_millis(), DAY);
    drop(engine);
    // forth and back, and once more: what was credited stays, and nothing is won twice
    for (wall, age) in [(0, DAY), (-8, DAY), (-7, 2 * DAY), (-8, 2 * DAY), (0, 3 * DAY)] {
        let engine = house.open_at(&ManualClock::at(START + wall * DAY));
        assert_eq!(engine.age_millis(), age, "at day {wall}");
    }
}

#[test]
fn the_test_clock_moves_the_age_on_and_never_back() {
    let house = House::new();
    let clock = ManualClock::at(START);
    let engine = house.open_at(&clock);
    clock.set_key_offset(8 * DAY);
    assert_eq!(engine.age_millis(), 8 * DAY);
    clock.set_key_offset(-8 * DAY);
    assert_eq!(engine.age_millis(), 8 * DAY);
    clock.set_key_offset(8 * DAY);
    clock.advance(5);
    assert_eq!(engine.age_millis(), 8 * DAY + 5);
}

#[test]
fn the_age_is_noted_at_least_hourly_when_nothing_else_is_published() {
    let house = House::new();
    let clock = ManualClock::at(START);
    let engine = house.open_at(&clock);
    let version = engine.catalog().version;
    clock.advance(HOUR - 1);
    assert_eq!((engine.age_millis(), engine.catalog().version), (HOUR - 1, version));
    clock.advance(1);
    let deadline = SystemClock.monotonic_millis() + 20_000;
    // asking is what wakes the thread that notes it
    while engine.age_millis() == HOUR && engine.catalog().age.millis < HOUR {
        assert!(SystemClock.monotonic_millis() < deadline, "the age is not noted");
        std::thread::yield_now();
    }
    assert_eq!(engine.catalog().age, crate::Age { millis: HOUR, noted_at_millis: START + HOUR });
}
