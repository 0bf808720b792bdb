use std::sync::mpsc;

use super::*;

/// Writes nothing until it is let go, and then keeps what it is given.
struct Held {
    go: mpsc::Receiver<()>,
    kept: mpsc::Sender<Vec<u8>>,
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.go.recv();
        let _ = self.kept.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn held() -> (Output, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
    let (let_go, go) = mpsc::channel();
    let (kept, written) = mpsc::channel();
    (Output::new(Held { go, kept }), let_go, written)
}

const NO_PATIENCE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn guest_waits_for_room_and_others_print_on() {
    let (output, let_go, written) = held();
    let (a, b) = (output.guest("a").unwrap(), output.guest("b").unwrap());
    let line = [vec![b'x'; BUFFER - 1], vec![b'\n']].concat();
    a.add(&line);
    assert_eq!(a.room().unwrap(), 0);
    let waits = std::future::poll_fn(|context| a.poll_writable(context));
    tokio::time::timeout(NO_PATIENCE, waits)
        .await
        .expect_err("there is no room");
    b.add(b"b\n");
    drop(let_go);
    std::future::poll_fn(|context| a.poll_writable(context)).await;
    assert_eq!(a.room().unwrap(), BUFFER);
    b.drained().await;
    let written: Vec<u8> = written.try_iter().flatten().collect();
    assert_eq!(written.len(), line.len() + 2);
}

#[tokio::test]
async fn end_is_not_held_by_a_destination_that_takes_nothing() {
    let (output, let_go, _written) = held();
    let stdio = Stdio::new("a", Some(&output), Some(&output)).unwrap();
    stdio.lanes().next().unwrap().add(b"a\n");
    assert!(!stdio.drained_within(NO_PATIENCE).await);
    let program = output.program().unwrap();
    assert!(!program.write_all_within(b"p\n", NO_PATIENCE));
    drop(let_go);
    assert!(stdio.drained_within(Duration::from_secs(60)).await);
    assert!(program.write_all_within(b"q\n", Duration::from_secs(60)));
}

#[test]
fn writer_is_dropped_after_everything_is_written() {
    let (output, let_go, written) = held();
    let lane = output.guest("a").unwrap();
    lane.add(b"last words");
    drop((output, lane));
    drop(let_go);
    let written: Vec<u8> = written.iter().flatten().collect();
    assert_eq!(written, b"last words");
}

#[test]
fn one_destination_keeps_the_order_of_both_streams() {
    let (output, let_go, written) = held();
    drop(let_go);
    let stdio = Stdio::new("a", Some(&output), Some(&output)).unwrap();
    let (out, err) = (stdio.stdout().unwrap(), stdio.stderr().unwrap());
    for (index, printer) in [&out, &err, &out, &err].into_iter().enumerate() {
        printer.0.add(format!("{index}\n").as_bytes());
    }
    drop((stdio, out, err, output));
    let written: Vec<u8> = written.iter().flatten().collect();
    assert_eq!(written, b"0\n1\n2\n3\n");
}

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
            .expect("nobody waits for what is never written");
        assert_eq!(lane.room().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
