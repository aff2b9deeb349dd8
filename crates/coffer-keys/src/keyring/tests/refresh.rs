//! Age of cached keys: refresh ahead, expiry, refusal, recovery.

use super::*;

async fn opened(f: &Fixture) -> (String, KeyRecord) {
    let specification = f.specification();
    let record = f.record(1, &specification).await;
    f.keyring.open(&table(1), &record).await.unwrap();
    (specification.arn().unwrap().to_owned(), record)
}

fn is_valid(f: &Fixture, lease: &KeyLease) -> bool {
    lease.is_valid(f.clock.key_now_millis())
}

#[tokio::test]
async fn reads_299_seconds_apart_cost_one_decrypt_and_301_two() {
    for (gap_seconds, decrypts) in [(299, 1), (301, 2)] {
        let f = fixture();
        let (_, record) = opened(&f).await;
        let lease = f.keyring.lease(&[1; 16]).unwrap();
        assert!(is_valid(&f, &lease));
        for _ in 0..gap_seconds {
            f.clock.advance(1_000);
            f.keyring.refresh_once().await;
        }
        f.keyring.open(&table(1), &record).await.unwrap();
        assert_eq!(f.keyring.kms_calls().decrypt, decrypts, "{gap_seconds} s");
        assert!(is_valid(&f, &lease), "the opened table's lease goes on");
    }
}

#[tokio::test]
async fn a_busy_table_never_meets_an_expired_key() {
    let f = fixture();
    opened(&f).await;
    let lease = f.keyring.lease(&[1; 16]).unwrap();
    let hours = 3;
    for _ in 0..hours * 3_600 {
        f.clock.advance(1_000);
        assert!(is_valid(&f, &lease));
        f.keyring.refresh_once().await;
    }
    let decrypts = f.keyring.kms_calls().decrypt;
    assert!((hours * 12..=hours * 18).contains(&decrypts), "{decrypts} in {hours} h");
}

#[tokio::test]
async fn the_test_clock_ages_keys() {
    let f = fixture();
    opened(&f).await;
    f.clock.set_key_offset(MAX_AGE);
    let error = f.keyring.create_data_key(&identity(1, 1)).err().unwrap();
    let Error::KeyUnavailable(unavailable) = error else { panic!("{error}") };
    assert_eq!(unavailable.reason, UnavailableReason::Expired);
}

#[tokio::test]
async fn a_disabled_key_stops_its_table_within_the_age_and_comes_back_by_itself() {
    let f = fixture();
    let (arn, record) = opened(&f).await;
    let other = f.record(2, &f.specification()).await;
    f.keyring.open(&table(2), &other).await.unwrap();
    let lease = f.keyring.lease(&[1; 16]).unwrap();
    let other_lease = f.keyring.lease(&[2; 16]).unwrap();
    f.kms.disable_key(&arn).unwrap();
    let mut seconds = 0;
    while is_valid(&f, &lease) {
        assert!(is_valid(&f, &other_lease));
        f.clock.advance(1_000);
        f.keyring.refresh_once().await;
        seconds += 1;
    }
    assert!((1..300).contains(&seconds), "{seconds} s");
    assert!(lease.is_revoked());
    assert_eq!(*f.revoked.lock(), ["ks.t1"]);
    let error = f.keyring.open(&table(1), &record).await.unwrap_err();
    assert!(error.to_string().starts_with("KMS key disabled error: "), "{error}");
    assert!(f.keyring.create_data_key(&identity(1, 1)).is_err());
    assert!(f.keyring.is_usable(&[2; 16]));

    f.kms.enable_key(&arn).unwrap();
    f.keyring.open(&table(1), &record).await.unwrap();
    assert!(is_valid(&f, &f.keyring.lease(&[1; 16]).unwrap()));
    assert!(!is_valid(&f, &lease), "a revoked lease never comes back");
}

#[tokio::test]
async fn a_request_that_meets_the_refusal_revokes_too() {
    let f = fixture();
    let (arn, record) = opened(&f).await;
    let lease = f.keyring.lease(&[1; 16]).unwrap();
    f.kms.disable_key(&arn).unwrap();
    f.clock.advance(MAX_AGE);
    assert!(f.keyring.open(&table(1), &record).await.is_err());
    assert!(lease.is_revoked() && f.revoked.lock().len() == 1);
}

#[tokio::test]
async fn an_outage_serves_the_cached_key_to_its_age_and_no_longer() {
    for name in ["KMSInternalException", "ThrottlingException", "NobodyKnowsException"] {
        let f = fixture();
        let (_, record) = opened(&f).await;
        let lease = f.keyring.lease(&[1; 16]).unwrap();
        f.fail(Some((KmsOperation::Decrypt, name)));
        let mut seconds = 0;
        while is_valid(&f, &lease) {
            f.clock.advance(1_000);
            f.keyring.refresh_once().await;
            seconds += 1;
        }
        assert_eq!(seconds, 300);
        assert!(!lease.is_revoked() && f.revoked.lock().is_empty());
        let attempts = f.keyring.kms_calls().decrypt;
        assert!((2..=30).contains(&attempts), "{attempts} attempts");
        let error = f.keyring.open(&table(1), &record).await.unwrap_err();
        assert!(matches!(error, KeyError::Transient(_) | KeyError::Ambiguous(_)), "{error}");
        f.fail(None);
        f.keyring.open(&table(1), &record).await.unwrap();
        assert!(is_valid(&f, &lease), "the opened table goes on with its lease");
    }
}

#[tokio::test]
async fn background_work_on_an_expired_key_brings_it_back() {
    let f = fixture();
    opened(&f).await;
    f.clock.advance(2 * MAX_AGE);
    assert_eq!(f.keyring.refresh_once().await, 0, "nobody asked");
    assert!(f.keyring.create_data_key(&identity(1, 1)).is_err());
    f.keyring.refresh_once().await;
    f.keyring.create_data_key(&identity(1, 1)).unwrap();
}

#[tokio::test]
async fn the_count_of_wraps_goes_on_through_a_refresh() {
    let f = fixture();
    let (_, record) = opened(&f).await;
    f.keyring.create_data_key(&identity(1, 1)).unwrap();
    f.clock.advance(MAX_AGE);
    f.keyring.open(&table(1), &record).await.unwrap();
    f.keyring.create_data_key(&identity(1, 2)).unwrap();
    assert_eq!(f.keyring.wrapping_key(&[1; 16]).unwrap().1, 2);
}
