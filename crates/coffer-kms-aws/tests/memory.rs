//! A table key leaves the memory of the process within a second of its eviction: the test reads its
//! own memory. Alone in its program, which has the allocator of the server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot go on ends; a second is one of the wall clock"
)]

#[path = "../../coffer-server/src/wiping_allocator.rs"]
mod wiping_allocator;

mod canned;

use base64::{Engine, engine::general_purpose::STANDARD};
use canned::{CannedKms, Request};
use coffer_crypto::{DataKeySource, FORMAT_VERSION, FileIdentity, RootKey, clock::ManualClock};
use coffer_keys::{
    EncryptionSpecification, KeyArn, Keyring, KeyringOptions, NewKeys, TableName,
    encryption_context,
};
use coffer_kms_aws::KmsThread;
use std::{
    alloc::System,
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::Arc,
    time::{Duration, Instant},
};
use wiping_allocator::{WipingAllocator, wipe_on_this_thread};

#[global_allocator]
static ALLOCATOR: WipingAllocator<System> = WipingAllocator(System);

const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/k";
const MASK: u8 = 0x5A;

/// The key, never as it is but where the KMS sends it.
fn masked_key() -> [u8; 32] {
    std::array::from_fn(|index| u8::try_from(index * 7 + 101).unwrap_or(0) ^ MASK)
}

fn answer(request: &Request) -> canned::Answer {
    let mut key = masked_key();
    key.iter_mut().for_each(|byte| *byte ^= MASK);
    let mut plaintext = STANDARD.encode(key);
    key.fill(0);
    std::hint::black_box(&mut key);
    assert!(request.head.starts_with("POST / ") && request.body.contains(ARN));
    let body = match request.operation.as_str() {
        "DescribeKey" => format!(
            r#"{{"KeyMetadata":{{"Arn":"{ARN}","KeyId":"k","KeyState":"Enabled","Enabled":true,
            "KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT"}}}}"#
        ),
        _ => {
            format!(r#"{{"CiphertextBlob":"YmxvYg==","Plaintext":"{plaintext}","KeyId":"{ARN}"}}"#)
        }
    };
    plaintext.clear();
    Some((200, body))
}

/// How many copies of the key, and of its base64 text, are in writable memory.
fn copies() -> (usize, usize) {
    let base64_masked: Vec<u8> = {
        let mut key = masked_key();
        key.iter_mut().for_each(|byte| *byte ^= MASK);
        let text = STANDARD.encode(key);
        key.fill(0);
        std::hint::black_box(&mut key);
        let masked = text.bytes().map(|byte| byte ^ MASK).collect();
        let mut bytes = text.into_bytes();
        bytes.fill(0);
        std::hint::black_box(&mut bytes);
        masked
    };
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut buffer = vec![0_u8; 1 << 20];
    let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + buffer.len() as u64;
    let (mut raw, mut text) = (0, 0);
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        let mut at = start;
        while at < end {
            let len = usize::try_from((end - at).min(buffer.len() as u64)).unwrap();
            let read = memory.read_at(&mut buffer[..len], at).unwrap_or(0);
            // the buffer shows what was read before, which is counted where it is
            let hits = |needle: &[u8]| {
                let windows = buffer[..read].windows(needle.len()).enumerate();
                windows
                    .filter(|(_, window)| {
                        window.iter().zip(needle).all(|(byte, masked)| byte ^ MASK == *masked)
                    })
                    .filter(|(offset, _)| !own.contains(&(at + *offset as u64)))
                    .count()
            };
            raw += hits(&masked_key());
            text += hits(&base64_masked);
            if read < len || at + len as u64 >= end {
                break;
            }
            // pieces overlap, so that nothing is missed between them
            at += len as u64 - 64;
        }
    }
    buffer.fill(0);
    std::hint::black_box(&mut buffer);
    (raw, text)
}

fn use_key(keyring: &Keyring) {
    let identity = FileIdentity {
        format_version: FORMAT_VERSION,
        cluster_id: [0; 16],
        table_id: [1; 16],
        file_id: [1; 16],
    };
    let (_, wrapped) = keyring.create_data_key(&identity).unwrap();
    drop(keyring.unwrap_data_key(&[1; 16], &wrapped, &identity).unwrap());
}

/// Looks until no copy of the key is left.
async fn gone_within_a_second(when: &str) {
    let evicted = Instant::now();
    loop {
        let (raw, text) = copies();
        if (raw, text) == (0, 0) {
            return;
        }
        let waited = evicted.elapsed();
        assert!(
            waited < Duration::from_secs(1),
            "{when}: {raw} copies and {text} texts of the key after {waited:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_table_key_is_nowhere_in_memory_a_second_after_its_eviction() {
    let server = KmsThread::start("kms-server", wipe_on_this_thread).unwrap();
    let kms = CannedKms::start(&server, answer).await.unwrap();
    let provider = Arc::new(canned::provider(&kms, wipe_on_this_thread).await);
    let clock = ManualClock::at(1_700_000_000_000);
    let root = RootKey::generate().unwrap();
    let keyring = Keyring::new(provider, root, clock.clone(), KeyringOptions::default());
    let table = TableName::new([1; 16], "ks", "t");
    let context = encryption_context(&table, "000000000000");
    let specification = EncryptionSpecification::CustomerManaged(KeyArn::parse(ARN).unwrap());
    let new = NewKeys {
        specification: &specification,
        context: &context,
        grants: None,
        double_wrapped: false,
    };
    let prepared = keyring.new_record(&table, new).await.unwrap();
    let record = prepared.record().clone();
    keyring.install(prepared);
    use_key(&keyring);
    assert!(copies().0 >= 1, "the cached key is seen by this test");

    for round in 0..3 {
        // the use is noted, so that it is not taken for one at the end of the lease
        keyring.refresh_once().await;
        clock.advance(300_000);
        keyring.refresh_once().await;
        gone_within_a_second(&format!("round {round}")).await;
        keyring.open(&table, &record).await.unwrap();
        use_key(&keyring);
        assert!(copies().0 >= 1);
    }
    let operations = kms.operations();
    assert_eq!(operations, ["GenerateDataKey", "Decrypt", "Decrypt", "Decrypt"]);
    assert_eq!(kms.requests.lock().unwrap().len(), operations.len());
    keyring.flush(None);
    gone_within_a_second("after a flush").await;
}
