//! A position that somebody kept elsewhere: what is cut off before it is named.

use super::*;

impl Bed {
    fn problems(&self, expected: AuditPosition) -> Vec<String> {
        let reader = AuditReader::new(&self.log_dir(), KIND, vec![self.root.duplicate()]);
        let reader = reader.expecting(Some(expected));
        let summary = reader.read(&AuditFilter::default(), &mut |_| ()).unwrap();
        summary.problems.into_iter().map(|problem| problem.what).collect()
    }

    /// A log of two files of two records each, and where it ends.
    fn with_two_files() -> (Self, AuditPosition) {
        let bed = Self::new();
        let mut position = None;
        for _ in 0..2 {
            let log = bed.open().unwrap();
            assert_eq!(log.position(), position, "as it was left");
            log.record(change("CreateKey")).unwrap();
            log.record(change("DisableKey")).unwrap();
            position = log.position();
        }
        assert_eq!(bed.read().1.last, position);
        (bed, position.unwrap())
    }
}

#[test]
fn a_log_that_goes_as_far_or_further_has_no_problem() {
    let (bed, position) = Bed::with_two_files();
    assert_eq!((position.file, position.records), (2, 2));
    assert_eq!(bed.problems(position), [""; 0]);
    let log = bed.open().unwrap();
    log.expect(position).unwrap();
    log.record(change("EnableKey")).unwrap();
    assert_eq!(bed.problems(position), [""; 0]);
    // oldest files may be removed, also past it
    fs::remove_file(bed.file(1)).unwrap();
    assert_eq!(bed.problems(position), [""; 0]);
    fs::remove_file(bed.file(2)).unwrap();
    assert_eq!(bed.problems(position), [""; 0]);
    log.expect(position).unwrap();
    assert_eq!(bed.names(), ["EnableKey"]);
}

#[test]
fn every_cut_before_it_and_another_record_in_its_place_are_named() {
    let (bed, position) = Bed::with_two_files();
    let bytes = fs::read(bed.file(2)).unwrap();
    let whole = (0..bytes.len()).find(|len| {
        fs::write(bed.file(2), &bytes[..*len]).unwrap();
        bed.problems(position).is_empty()
    });
    // what follows its last record is the end of the file only
    assert!(whole.is_some_and(|whole| whole > bytes.len() - 100), "{whole:?} of {}", bytes.len());
    fs::write(bed.file(2), &bytes).unwrap();
    let other = AuditPosition { sha256: [0; 32], ..position };
    assert!(bed.problems(other)[0].contains("missing, or others"));
    fs::remove_file(bed.file(2)).unwrap();
    assert!(bed.problems(position)[0].contains("at least 2"));
    fs::remove_dir_all(bed.log_dir()).unwrap();
    assert!(bed.problems(position)[0].contains("at least 2"));
}

#[test]
fn a_log_that_is_gone_goes_on_after_it_and_says_so_from_then_on() {
    let (bed, position) = Bed::with_two_files();
    fs::remove_dir_all(bed.log_dir()).unwrap();
    let log = bed.open().unwrap();
    assert_eq!(log.position(), None);
    log.expect(position).unwrap();
    log.record(change("EnableKey")).unwrap();
    let (records, summary) = bed.read();
    assert_eq!(summary.first_file, Some(3), "no number is used twice");
    assert_eq!(records[0].json["eventName"], "AuditRecordsMissing");
    assert_eq!(records[0].json["serviceEventDetails"]["records"], 2);
    assert_eq!(summary.problems.len(), 1);
    assert!(summary.problems[0].what.contains("were missing when"), "{summary:?}");
    // once
    log.expect(log.position().unwrap()).unwrap();
    log.expect(position).unwrap();
    assert_eq!(bed.read().1.records, 2);
}
