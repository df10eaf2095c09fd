//! What is made, what is refused, and that nothing is left behind.

use std::os::unix::fs::PermissionsExt;

use super::*;

const MIB: u64 = 1 << 20;

fn bytes(size_bytes: u64) -> ByteSize {
    ByteSize::from_bytes(size_bytes)
}

fn made(path: &Path, size_bytes: u64, space: Space) -> Result<Created, CreateError> {
    create(path, ImageFormat::Raw, bytes(size_bytes), space)
}

/// The error for `name` in an empty directory, in which nothing is afterwards.
fn refused(name: &str, size_bytes: u64, space: Space) -> CreateError {
    let directory = tempfile::tempdir().unwrap();
    let error = made(&directory.path().join(name), size_bytes, space).unwrap_err();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{error}");
    error
}

fn wanted(path: &Path) -> Wanted<'_> {
    Wanted { path, size: bytes(2 * MIB), free_bytes: Some(MIB) }
}

#[test]
fn a_sparse_image_has_its_size_and_takes_no_space() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.raw");
    let created = made(&path, 64 * MIB, Space::AsWritten).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 64 * MIB);
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert!(created.allocated_bytes < MIB, "{created:?}");
    assert!(created.free_bytes.is_some_and(|free| free > 0), "{created:?}");
}

#[test]
fn a_reserved_image_takes_its_space_and_reads_as_zeros() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.raw");
    let created = made(&path, 2 * MIB, Space::Reserved).unwrap();
    assert!(created.allocated_bytes >= 2 * MIB, "{created:?}");
    let content = fs::read(&path).unwrap();
    assert_eq!(content.len() as u64, 2 * MIB);
    assert!(content.iter().all(|byte| *byte == 0));
}

#[test]
fn a_name_without_a_directory_is_in_the_one_at_hand() {
    assert_eq!(directory(Path::new("a.raw")), Path::new("."));
    assert_eq!(directory(Path::new("/a.raw")), Path::new("/"));
}

#[test]
fn what_is_there_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let link = directory.path().join("link");
    fs::write(&file, "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for path in [&file, &link, directory.path()] {
        let error = made(path, MIB, Space::AsWritten).unwrap_err();
        assert!(matches!(error, CreateError::Exists { .. }), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert!(!directory.path().join("nowhere").exists());
}

#[test]
fn what_appears_while_an_image_is_made_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.raw");
    let image = NewFile::unnamed(directory.path()).unwrap();
    fs::write(&path, "mine").unwrap();
    assert_eq!(image.finish(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(NewFile::named(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn an_image_is_there_when_it_is_finished_and_only_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.raw");
    for start in [|path: &Path| NewFile::unnamed(path.parent().unwrap()), NewFile::named] {
        drop(start(&path).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        start(&path).unwrap().finish(&path).unwrap();
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn sizes_are_whole_sectors() {
    let error = refused("a.raw", 0, Space::AsWritten);
    assert!(error.to_string().ends_with("a.raw would have no bytes; a disk has at least one sector of 512"));
    let error = refused("a.raw", 1000, Space::AsWritten);
    let text = "a.raw would have 1000 bytes, which are no whole sectors of 512; 1024 are";
    assert!(error.to_string().ends_with(text), "{error}");
    let error = refused("a.raw", u64::MAX, Space::AsWritten);
    assert!(error.to_string().ends_with("18446744073709551104 are"), "{error}");
}

#[test]
fn a_missing_directory_and_one_that_is_a_file_are_named() {
    let error = refused("no/a.raw", MIB, Space::AsWritten);
    assert!(matches!(error, CreateError::NoDirectory { .. }), "{error}");
    assert!(error.to_string().ends_with("/no is no directory; make it first, or name another"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = made(&file.path().join("a.raw"), MIB, Space::AsWritten).unwrap_err();
    assert!(matches!(error, CreateError::NoDirectory { .. }), "{error}");
    let error = refused("no/", MIB, Space::AsWritten);
    assert!(matches!(error, CreateError::NotAFile { .. }), "{error}");
}

#[test]
fn a_directory_without_permission_is_named() {
    let error = cannot_start(Path::new("/there/a.raw"), Errno::EROFS.into());
    assert_eq!(
        error.to_string(),
        "cannot create disk image /there/a.raw: nothing may be written to /there; name a directory where you may write"
    );
    let error = cannot_start(Path::new("a.raw"), Errno::EACCES.into());
    assert!(matches!(error, CreateError::Denied { .. }), "{error}");
}

#[test]
fn more_than_a_file_can_be_is_said_with_the_size() {
    let error = refused("a.raw", 8 << 60, Space::AsWritten);
    assert!(error.to_string().ends_with("its file system has no files of 8EiB; ask for less"), "{error}");
}

#[test]
fn room_that_is_not_there_is_not_even_tried() {
    let path = Path::new("a.raw");
    let file = tempfile::tempfile().unwrap();
    let error = wanted(path).fill(&file, Space::Reserved).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot create disk image a.raw: no room for 2MiB, its file system has 1MiB free; make room, ask for less, \
         or do not reserve the space"
    );
    assert!(file.metadata().unwrap().blocks() < 8);
    assert!(wanted(path).fill(&file, Space::AsWritten).is_ok());
}

#[test]
fn what_the_host_refuses_is_told_apart() {
    let path = Path::new("a.raw");
    let refused = |error: Errno| wanted(path).refused(error.into());
    assert!(matches!(refused(Errno::EFBIG), CreateError::TooLarge { .. }));
    assert!(matches!(refused(Errno::ENOSPC), CreateError::NoRoom { .. }));
    assert!(matches!(refused(Errno::EOPNOTSUPP), CreateError::CannotReserve { .. }));
    assert!(matches!(refused(Errno::EDQUOT), CreateError::Host { .. }));
}

#[test]
fn what_is_free_is_rounded_down() {
    for (free_bytes, text) in [
        (0, "0B"),
        (1023, "1023B"),
        (10 * MIB - 1, "10239KiB"),
        ((63 << 30) + 1, "63GiB"),
        (u64::MAX, "16777215TiB"),
    ] {
        assert_eq!(rounded(free_bytes).to_string(), text);
    }
}
