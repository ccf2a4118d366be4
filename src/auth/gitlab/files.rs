//! Small private files of the state folder: written whole or not at all, readable by nobody else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Files here hold a key or a key set; anything longer was not written by us.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Whether a file that exists already is to be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IfExists {
    Replace,
    /// Errors with `AlreadyExists`; of two processes at once only one succeeds.
    Keep,
}

/// Writes a file of mode 0600 through a temporary one beside it, and the folder if there is none.
pub(super) fn write_private(path: &Path, bytes: &[u8], if_exists: IfExists) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_private_folder(folder)?;
    let temporary = temporary_beside(path);
    let written = create_private(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| match if_exists {
        IfExists::Replace => fs::rename(&temporary, path),
        IfExists::Keep => match fs::hard_link(&temporary, path) {
            // A file system without links: two processes at the same instant could both succeed, the last one wins.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => {
                fs::rename(&temporary, path)
            }
            linked => linked,
        },
    });
    if moved.is_err() || if_exists == IfExists::Keep {
        // What is left over after a failure is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    }
    moved
}

/// The file's text, or nothing if there is no such file.
pub(super) fn read_text(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than 1 MiB"));
    }
    Ok(Some(text))
}

/// When the file was last written, in seconds since 1970.
pub(super) fn modified_s(path: &Path) -> Option<u64> {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    modified.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Whether others than the owner may read the file.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Creates a file that must not exist yet, for its owner alone.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.new", rand::random::<u64>()));
    path.with_file_name(name)
}
