use std::sync::mpsc;

use super::*;

/// A writer that blocks until it is released, and then sends the bytes that it gets.
struct BlockedWriter {
    go: mpsc::Receiver<()>,
    kept: mpsc::Sender<Vec<u8>>,
}

impl Write for BlockedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.go.recv();
        let _ = self.kept.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn blocked() -> (Output, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
    let (release, go) = mpsc::channel();
    let (kept, written) = mpsc::channel();
    (Output::new(BlockedWriter { go, kept }), release, written)
}

const NO_PATIENCE: Duration = Duration::from_millis(20);

// rule 11
#[tokio::test]
async fn guest_waits_for_space_while_others_print() {
    let (output, release, written) = blocked();
    let (a, b) = (output.guest("a").unwrap(), output.guest("b").unwrap());
    let line = [vec![b'x'; BUFFER - 1], vec![b'\n']].concat();
    a.add(&line);
    assert_eq!(a.room().unwrap(), 0);
    let waits = std::future::poll_fn(|context| a.poll_writable(context));
    tokio::time::timeout(NO_PATIENCE, waits)
        .await
        .expect_err("the buffer is full");
    b.add(b"b\n");
    drop(release);
    std::future::poll_fn(|context| a.poll_writable(context)).await;
    assert_eq!(a.room().unwrap(), BUFFER);
    b.drained().await;
    let written: Vec<u8> = written.try_iter().flatten().collect();
    assert_eq!(written.len(), line.len() + 2);
}

// rule 9
#[tokio::test]
async fn blocked_destination_does_not_delay_the_end() {
    let (output, release, _written) = blocked();
    let stdio = Stdio::new("a", Some(&output), Some(&output)).unwrap();
    stdio.lanes().next().unwrap().add(b"a\n");
    assert!(!stdio.drained_within(NO_PATIENCE).await);
    let program = output.program().unwrap();
    assert!(!program.write_all_within(b"p\n", NO_PATIENCE));
    drop(release);
    assert!(stdio.drained_within(Duration::from_secs(60)).await);
    assert!(program.write_all_within(b"q\n", Duration::from_secs(60)));
}

#[test]
fn writer_is_dropped_after_the_last_write() {
    let (output, release, written) = blocked();
    let lane = output.guest("a").unwrap();
    lane.add(b"last words");
    drop((output, lane));
    drop(release);
    let written: Vec<u8> = written.iter().flatten().collect();
    assert_eq!(written, b"last words");
}

#[test]
fn shared_destination_keeps_the_order() {
    let (output, release, written) = blocked();
    drop(release);
    let stdio = Stdio::new("a", Some(&output), Some(&output)).unwrap();
    let (out, err) = (stdio.stdout().unwrap(), stdio.stderr().unwrap());
    for (index, printer) in [&out, &err, &out, &err].into_iter().enumerate() {
        printer.0.add(format!("{index}\n").as_bytes());
    }
    drop((stdio, out, err, output));
    let written: Vec<u8> = written.iter().flatten().collect();
    assert_eq!(written, b"0\n1\n2\n3\n");
}

// rule 9
#[tokio::test]
async fn panic_of_the_writer_closes_the_destination() {
    struct Panics;
    impl Write for Panics {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("as the test wants it");
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let output = Output::new(Panics);
    let (a, b) = (output.guest("a").unwrap(), output.guest("b").unwrap());
    a.add(b"a\n");
    b.add(b"b\n");
    for lane in [&a, &b] {
        let drained = tokio::time::timeout(Duration::from_secs(60), lane.drained());
        drained
            .await
            .expect("the wait ends although nothing is written");
        assert_eq!(lane.room().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
