use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes a file that appears under its name when it is complete, or not at all.
pub(crate) fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> hound::Result<()>,
) -> hound::Result<()> {
    let unfinished = Unfinished::beside(path)?;
    let mut file = BufWriter::with_capacity(1 << 18, File::create_new(&unfinished.path)?);
    fill(&mut file)?;
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    fs::rename(&unfinished.path, path)?;
    Ok(())
}

/// A file that is removed unless it was renamed.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn beside(path: &Path) -> io::Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::other("the path names no file"))?;
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut unfinished = OsString::from(".");
        unfinished.push(name);
        unfinished.push(format!(".{:x}.part", since.as_nanos()));
        Ok(Self {
            path: path.with_file_name(unfinished),
        })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After the rename there is no file of this name. If removal fails, the earlier
        // error matters more.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn complete_file_replaces_the_old_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.wav");
        fs::write(&path, "old").expect("written");
        write(&path, |file| Ok(file.write_all(b"new")?)).expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::read_dir(&directory).expect("listed").count(), 1);
    }

    #[test]
    fn failure_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.wav");
        let result = write(&path, |file| {
            file.write_all(b"half")?;
            Err(hound::Error::TooWide)
        });
        assert!(result.is_err());
        assert_eq!(fs::read_dir(&directory).expect("listed").count(), 0);
    }
}
