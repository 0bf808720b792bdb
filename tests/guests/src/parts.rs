//! Acts on a lent region, of parts of a component and of other guests.

use tombolo_guest::{Error, Region, Rights};

/// Plays a script on a lent region.
///
/// # Errors
///
/// The error of the act, or if there is no such script.
pub fn play(script: &str, it: &Region) -> Result<String, String> {
    act(script, it).map_err(|error| match error {
        Some(error) => error.to_string(),
        None => format!("no such script: {script}"),
    })
}

fn act(script: &str, it: &Region) -> Result<String, Option<Error>> {
    match script {
        "double" => {
            for byte in it.try_write(..)?.iter_mut() {
                *byte *= 2;
            }
        }
        "sum" => {
            let window = it.try_read(..)?;
            let sum: u64 = window.iter().copied().map(u64::from).sum();
            return Ok(sum.to_string());
        }
        // Keeps a window for longer than the lend.
        "keep" => {
            let mut window = it.try_write(..)?;
            window.fill(3);
            std::mem::forget(window);
        }
        "abuse" => {
            assert_eq!(
                it.duplicate(Rights::READ).map(drop),
                Err(Error::NotPermitted)
            );
            assert_eq!(it.freeze(), Err(Error::NotPermitted));
            assert_eq!(it.pin(..).map(drop), Err(Error::NotPermitted));
            assert_eq!(it.unpin(..), Err(Error::NotPermitted));
            assert!(!it.rights().contains(Rights::SHARE));
        }
        "die" => {
            std::mem::forget(it.try_write(..)?);
            panic!("it is told to");
        }
        _ => return Err(None),
    }
    Ok("done".into())
}
