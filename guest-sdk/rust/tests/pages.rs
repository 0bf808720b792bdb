//! The fragments of guests that the README and `docs/guests.md` show. The test program `docs` of
//! the host compares them with the pages. Here they are only compiled, because they need a host.

#![expect(dead_code, reason = "the fragments compile, and are not run")]

use tombolo_guest::{Error, Pinned, Region, Rights, scopes};

mod bindings {
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "wit",
        inline: r#"
            package example:pages;

            interface mixer {
                use tombolo:memory/regions@0.1.0.{region};

                /// Doubles the samples, in place.
                amplify: func(samples: borrow<region>) -> result<_, string>;
                process: func(samples: borrow<region>) -> result<_, string>;
                look: func(samples: borrow<region>) -> result<_, string>;
            }

            interface decoders {
                use tombolo:memory/regions@0.1.0.{region};

                resource decoder {
                    open: static func(file: region) -> result<decoder, string>;
                    next: func(frame: borrow<region>) -> result<bool, string>;
                }
            }

            interface filters {
                use tombolo:memory/regions@0.1.0.{region};

                sharpen: async func(frame: borrow<region>) -> bool;
            }

            world guest {
                import mixer;
                import filters;
                import decoders;
                import wasi:io/streams@0.2.0;
            }
        "#,
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
}

use bindings::example::pages::decoders::Decoder;
use bindings::example::pages::filters::sharpen;
use bindings::example::pages::mixer::{self, look, process};
use bindings::wasi::io::streams::{InputStream, OutputStream};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn lend_with_window_kept() -> Result<()> {
    let region = Region::create("samples", 4 * 44_100)?;
    let mut window = region.try_write(..)?;
    window.as_mut_slice_of::<f32>().fill(0.25);
    mixer::amplify(&window.lend())?; // the other guest writes here now ...
    assert_eq!(window.as_slice_of::<f32>()[0], 0.5); // ... and this is its result
    Ok(())
}

fn lend_within_a_component(region: &Region) -> Result<()> {
    let mut window = region.try_write(..)?;
    let lent = window.lend_within()?; // for several: region.lend_within((&mut head, &mut tail))
    process(&lent)?;
    look(&lent)?;
    drop(lent); // from here on the window shows what the other part wrote
    Ok(())
}

// Once, with the path of the streams in your own bindings:
tombolo_guest::impl_streams!(bindings::wasi::io::streams);

fn pass_a_body_on(region: Region, input: InputStream, output: OutputStream) -> Result<()> {
    // ...
    let length = region.fill_from(&input, ..)?;
    process(&region)?;
    region.write_to(&output, ..length)?;
    Ok(())
}

async fn lend_by_async_function(region: &Region) -> Result<(), Error> {
    let window = region.write_async(..).await?;
    let (window, done) = window
        .lend_async(async |frame| sharpen(frame).await)
        .await?;
    assert!(done && window[0] == 2);
    Ok(())
}

fn write_live(region: &Region) -> Result<()> {
    // In the guest that writes:
    let window = region.live_write(..)?;
    window.cells_of::<f32>().set(7, 0.25);
    Ok(())
}

fn watch_live(region: &Region) -> Result<f32> {
    // In the guest that watches:
    let window = region.live_read(..)?;
    let sample = window.cells_of::<f32>().get(7);
    Ok(sample)
}

fn lend_windows(region: &Region) -> Result<()> {
    let mut window = region.write(..65536)?;
    process(&window.lend())?; // one window
    drop(window);

    let mut head = region.write(..65536)?;
    let mut tail = region.write(65536..)?;
    process(&region.lend((&mut head, &mut tail)))?; // several
    Ok(())
}

fn lend_for_reading(region: &Region) -> Result<()> {
    let readable = region.restrict(Rights::READ)?;
    look(&readable)?;
    Ok(())
}

fn decode(file: Region, frame: &Region, show: impl Fn(&[u8])) -> Result<()> {
    let mut window = frame.read(..)?;
    let decoder = Decoder::open(file)?;
    while decoder.next(&window.lend())? {
        show(&window);
    }
    Ok(())
}

fn draw_again(region: &Region, draw: impl Fn(&mut [u8])) -> Result<(), Error> {
    let mut window = region.write(..)?;
    draw(&mut window);
    let unpinned = window.unpin()?;
    // ... later ...
    let window = match unpinned.pin()? {
        Pinned::Intact(window) => window,
        Pinned::Lost(mut window) => {
            draw(&mut window);
            window
        }
    };
    drop(window);
    Ok(())
}

trait Cache {
    fn drop_oldest(&mut self);
    fn clear(&mut self);
}

fn give_way(cache: &mut dyn Cache, work: impl Fn()) {
    use tombolo_guest::pressure::{Level, Watch};

    let watch = Watch::new();
    loop {
        work();
        if watch.changed() {
            match watch.level() {
                Level::Normal => {}
                Level::Moderate => cache.drop_oldest(),
                Level::Critical => cache.clear(),
            }
        }
    }
}

mod stage {
    use tombolo_guest::channels::{Receiver, Sender};

    fn main() -> Result<(), Box<dyn std::error::Error>> {
        let frames = Receiver::open("frames")?;
        let done = Sender::open("done")?;
        while let Some(mut message) = frames.receive()? {
            let frame = message.regions.pop().ok_or("a message without a frame")?;
            sharpen(&mut frame.write(..)?);
            done.send(&message.bytes, vec![frame])?;
        }
        Ok(())
    }

    fn sharpen(_frame: &mut [u8]) {}
}

fn publish(table: &Region) -> Result<()> {
    // In the guest that has the region:
    let _published = scopes::publish("tables", "sines", table, Rights::READ)?;
    Ok(())
}

fn open() -> Result<Region> {
    // In another guest; waits until the name exists:
    let sines = scopes::open("tables", "sines")?;
    Ok(sines)
}
