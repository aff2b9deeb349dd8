//! Behaviour of publishing, of faults and of crashes.

use std::io::ErrorKind;

use super::*;

fn directory() -> (tempfile::TempDir, Arc<dyn Vfs>, FaultVfs) {
    let directory = tempfile::tempdir().expect("a directory");
    let faults = FaultVfs::new();
    (directory, Arc::new(faults.clone()), faults)
}

#[test]
fn a_published_file_survives_the_worst_crash() {
    let (directory, vfs, faults) = directory();
    let path = directory.path().join("a");
    publish(&vfs, &path, b"contents").expect("publish");
    faults.crash(CrashLoss::Everything).expect("crash");
    assert_eq!(vfs.read(&path, 100).expect("read"), b"contents");
    assert_eq!(vfs.list(directory.path()).expect("list"), ["a"]);
}

#[test]
fn publishing_that_fails_anywhere_leaves_no_file_of_that_name_or_a_whole_one() {
    let steps = {
        let (directory, vfs, faults) = directory();
        publish(&vfs, &directory.path().join("a"), b"contents").expect("publish");
        faults.operations()
    };
    assert_eq!(steps, 5, "create, write, sync, rename, sync directory");
    for step in 1..=steps {
        for fault in [Fault::Error(ErrorKind::StorageFull), Fault::ShortWrite] {
            for seed in 0..20 {
                let (directory, vfs, faults) = directory();
                let path = directory.path().join("a");
                faults.fail_operation(step, fault);
                publish(&vfs, &path, b"contents").expect_err("the fault is reported");
                faults.crash(CrashLoss::Random(seed)).expect("crash");
                if vfs.exists(&path).expect("exists") {
                    assert_eq!(
                        vfs.read(&path, 100).expect("read"),
                        b"contents",
                        "step {step} seed {seed}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let (directory, vfs, faults) = directory();
    faults.fail_operation(2, Fault::ShortWrite);
    publish(&vfs, &directory.path().join("a"), b"contents").expect_err("a full disk");
    assert_eq!(vfs.list(directory.path()).expect("list"), [""; 0]);
}

#[test]
fn what_a_crashed_writer_left_is_removed_or_replaced() {
    let (directory, vfs, faults) = directory();
    let path = directory.path().join("a");
    // the dead process does not run destructors
    let unfinished = UnpublishedFile::create(&vfs, &path).expect("create");
    let mut unfinished = std::mem::ManuallyDrop::new(unfinished);
    unfinished.append(b"half").expect("append");
    vfs.sync_directory(directory.path()).expect("sync");
    faults.crash(CrashLoss::Everything).expect("crash");
    assert_eq!(vfs.list(directory.path()).expect("list"), ["a.unpublished"]);
    publish(&vfs, &path, b"whole").expect("publish");
    assert_eq!(vfs.read(&path, 100).expect("read"), b"whole");
    drop(UnpublishedFile::create(&vfs, &directory.path().join("b")).expect("create"));
    assert_eq!(remove_unpublished(vfs.as_ref(), directory.path()).expect("remove"), 0);
    vfs.create(&directory.path().join("c.unpublished")).expect("create");
    assert_eq!(remove_unpublished(vfs.as_ref(), directory.path()).expect("remove"), 1);
    assert_eq!(vfs.list(directory.path()).expect("list"), ["a"]);
}

#[test]
fn a_crash_takes_what_was_not_synced_and_a_kill_does_not() {
    for (loss, expected) in [(CrashLoss::Everything, "one"), (CrashLoss::Nothing, "onetwo")] {
        let (directory, vfs, faults) = directory();
        let path = directory.path().join("log");
        let mut file = vfs.create(&path).expect("create");
        file.append(b"one").expect("append");
        file.sync().expect("sync");
        vfs.sync_directory(directory.path()).expect("sync directory");
        file.append(b"two").expect("append");
        faults.crash(loss).expect("crash");
        assert_eq!(vfs.read(&path, 100).expect("read"), expected.as_bytes());
        assert_eq!(
            file.append(b"three").expect_err("the process is dead").kind(),
            ErrorKind::BrokenPipe
        );
    }
}

#[test]
fn what_a_killed_process_did_not_sync_goes_with_a_later_loss_of_power_unless_written_again() {
    for (again, expected) in [(false, "one"), (true, "onetwo")] {
        let (directory, vfs, faults) = directory();
        let path = directory.path().join("log");
        let mut file = vfs.create(&path).expect("create");
        file.append(b"one").expect("append");
        file.sync().expect("sync");
        vfs.sync_directory(directory.path()).expect("sync directory");
        file.append(b"two").expect("append");
        faults.fail_operation(faults.operations() + 1, Fault::Error(ErrorKind::Other));
        file.sync().expect_err("the fault is reported");
        faults.crash(CrashLoss::Nothing).expect("crash");
        let mut file = vfs.reopen(&path).expect("reopen");
        if again {
            file.write_at(3, b"two").expect("write");
        }
        file.sync().expect("a later sync says nothing of what the first one lost");
        faults.crash(CrashLoss::Everything).expect("crash");
        assert_eq!(vfs.read(&path, 100).expect("read"), expected.as_bytes());
    }
}

#[test]
fn a_removed_file_comes_back_unless_the_directory_was_synced() {
    let (directory, vfs, faults) = directory();
    let path = directory.path().join("a");
    publish(&vfs, &path, b"contents").expect("publish");
    vfs.remove(&path).expect("remove");
    faults.crash(CrashLoss::Everything).expect("crash");
    assert!(vfs.exists(&path).expect("exists"));
    vfs.remove(&path).expect("remove");
    vfs.sync_directory(directory.path()).expect("sync");
    faults.crash(CrashLoss::Everything).expect("crash");
    assert!(!vfs.exists(&path).expect("exists"));
}

#[test]
fn a_file_longer_than_the_limit_is_not_read() {
    let (directory, vfs, _) = directory();
    let path = directory.path().join("a");
    publish(&vfs, &path, b"12345").expect("publish");
    assert_eq!(vfs.read(&path, 5).expect("read"), b"12345");
    assert_eq!(vfs.read(&path, 4).expect_err("too long").kind(), ErrorKind::FileTooLarge);
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, vfs, _) = directory();
    let inner = directory.path().join("x/y");
    vfs.create_directory(&inner).expect("create directory");
    publish(&vfs, &inner.join("a"), b"contents").expect("publish");
    let mode =
        |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join("a"))), (0o700, 0o600));
}

#[test]
fn a_second_name_is_the_same_file_and_lasts_when_its_directory_is_synced() {
    for seed in 0..20 {
        let (directory, vfs, faults) = directory();
        let [first, second] = ["a/file", "b/file"].map(|name| directory.path().join(name));
        for path in [&first, &second] {
            vfs.create_directory(path.parent().expect("parent")).expect("directory");
        }
        publish(&vfs, &first, b"contents").expect("publish");
        link_or_copy(&vfs, &first, &second).expect("link");
        assert_eq!(link_count(&first), 2);
        let again = link_or_copy(&vfs, &first, &second).expect_err("it has the name");
        assert!(
            matches!(again, Error::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists)
        );
        if seed == 0 {
            faults.crash(CrashLoss::Everything).expect("crash");
            assert_eq!(vfs.read(&first, 100).expect("read"), b"contents");
            assert!(!vfs.exists(&second).expect("exists"));
            continue;
        }
        vfs.sync_directory(&directory.path().join("b")).expect("sync");
        vfs.remove(&first).expect("remove");
        faults.crash(CrashLoss::Random(seed)).expect("crash");
        assert_eq!(vfs.read(&second, 100).expect("read"), b"contents");
        faults.crash(CrashLoss::Everything).expect("crash");
        assert_eq!(vfs.read(&second, 100).expect("read"), b"contents");
    }
}

#[test]
fn where_the_system_refuses_second_names_a_copy_is_published() {
    for kind in [ErrorKind::Unsupported, ErrorKind::CrossesDevices, ErrorKind::PermissionDenied] {
        let (directory, vfs, faults) = directory();
        let [first, second] = ["a", "b"].map(|name| directory.path().join(name));
        let contents = vec![7; COPY_BYTES + 5];
        publish(&vfs, &first, &contents).expect("publish");
        faults.fail_operation(faults.operations() + 1, Fault::Error(kind));
        link_or_copy(&vfs, &first, &second).expect("copy");
        assert_eq!((link_count(&first), link_count(&second)), (1, 1));
        vfs.sync_directory(directory.path()).expect("sync");
        faults.crash(CrashLoss::Everything).expect("crash");
        assert_eq!(vfs.read(&second, u64::MAX).expect("read"), contents);
    }
}

fn link_count(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(path).expect("metadata"))
}
