use super::lane::CHUNK;
use super::*;

/// Writes everything that may be written, and returns it.
fn text(merge: &mut Merge, now: Instant) -> String {
    let mut bytes = Vec::new();
    while let Some(chunk) = merge.take(now) {
        bytes.extend(chunk.bytes);
        merge.written(chunk.lane, Ok(()));
    }
    String::from_utf8(bytes).unwrap()
}

fn two(terminal: bool) -> (Merge, usize, usize, Instant) {
    let mut merge = Merge::new(terminal);
    let a = merge.enter(Source::Guest);
    let b = merge.enter(Source::Guest);
    (merge, a, b, Instant::now())
}

#[test]
fn lines_of_two_guests_stay_whole() {
    let (mut merge, a, b, now) = two(false);
    merge.add(a, b"one ", now);
    merge.add(b, b"eins ", now);
    assert_eq!(text(&mut merge, now), "");
    merge.add(a, b"line\nand ", now);
    merge.add(b, b"Zeile\n", now);
    assert_eq!(text(&mut merge, now), "one line\neins Zeile\n");
    merge.add(a, b"more\n", now);
    assert_eq!(text(&mut merge, now), "and more\n");
}

#[test]
fn bytes_of_one_guest_are_written_at_once() {
    let mut merge = Merge::new(false);
    let (program, a) = (merge.enter(Source::Program), merge.enter(Source::Guest));
    let now = Instant::now();
    merge.add(a, b"50 %\r", now);
    assert_eq!(text(&mut merge, now), "50 %\r");
    merge.add(program, b"warning\n", now);
    merge.add(a, b"100 %", now);
    assert_eq!(text(&mut merge, now), "\nwarning\n100 %");
}

#[test]
fn prompt_is_written_when_released() {
    let (mut merge, a, b, now) = two(false);
    merge.add(a, b"name? ", now);
    assert_eq!(text(&mut merge, now), "");
    merge.release(a);
    assert_eq!(text(&mut merge, now), "name? ");
    // The other guest prints on a new line.
    merge.add(b, b"b\n", now);
    assert_eq!(text(&mut merge, now), "\nb\n");
}

#[test]
fn terminal_gets_unfinished_lines_after_a_delay() {
    let (mut merge, a, _, now) = two(true);
    merge.add(a, b"name? ", now);
    assert_eq!(text(&mut merge, now), "");
    assert_eq!(merge.next_unfinished(now), Some(REST_OF_LINE));
    assert_eq!(text(&mut merge, now + REST_OF_LINE), "name? ");
    assert_eq!(merge.next_unfinished(now), None);
}

// rule 9
#[test]
fn endless_line_does_not_starve_other_guests() {
    let (mut merge, a, b, now) = two(false);
    let mut endless = 0;
    for round in 0..3 {
        let room = merge.room(a).unwrap();
        merge.add(a, &vec![b'x'; room], now);
        endless += room;
        merge.add(b, format!("{round}\n").as_bytes(), now);
        let written = text(&mut merge, now);
        assert!(written.contains(&format!("\n{round}\n")), "{round}");
    }
    assert_eq!(endless, 3 * BUFFER);
}

#[test]
fn buffer_includes_bytes_being_written() {
    let (mut merge, a, _, now) = two(false);
    let line = [vec![b'x'; BUFFER - 1], vec![b'\n']].concat();
    merge.add(a, &line, now);
    assert_eq!(merge.room(a).unwrap(), 0);
    let chunk = merge.take(now).unwrap();
    assert_eq!(merge.room(a).unwrap(), 0);
    assert!(!merge.is_drained(a, None));
    merge.written(chunk.lane, Ok(()));
    assert_eq!(merge.room(a).unwrap(), BUFFER);
    assert!(merge.is_drained(a, None));
}

#[test]
fn lanes_take_turns_by_chunks_of_lines() {
    let (mut merge, a, b, now) = two(false);
    let lines = |text: &str| text.repeat(BUFFER / text.len());
    merge.add(a, lines("aaaaaaa\n").as_bytes(), now);
    merge.add(b, lines("bbbbbbb\n").as_bytes(), now);
    let mut turns = Vec::new();
    while let Some(chunk) = merge.take(now) {
        assert!(chunk.bytes.len() <= CHUNK && chunk.bytes.ends_with(b"\n"));
        turns.push(chunk.lane);
        merge.written(chunk.lane, Ok(()));
    }
    assert_eq!(turns, [a, b].repeat(BUFFER / CHUNK));
}

#[test]
fn next_incarnation_begins_on_a_new_line() {
    let (mut merge, a, _, now) = two(false);
    merge.add(a, b"cut sho", now);
    merge.end_incarnation(a, now);
    assert_eq!(text(&mut merge, now), "cut sho");
    merge.add(a, b"hello\n", now);
    assert_eq!(text(&mut merge, now), "\nhello\n");
}

#[test]
fn lines_with_names_are_escaped() {
    let mut merge = Merge::new(false);
    let a = merge.enter(Source::Named("a".into()));
    merge.enter(Source::Guest);
    let now = Instant::now();
    merge.add(a, b"one\nb | two\r\x1b[2J\n\n", now);
    assert_eq!(
        text(&mut merge, now),
        "a | one\na | b | two\\r\\u{1b}[2J\na | \n"
    );
    merge.add(a, b"end", now);
    merge.end_incarnation(a, now);
    assert_eq!(text(&mut merge, now), "a | end\n");
}

#[test]
fn incomplete_character_waits_for_its_rest() {
    let mut merge = Merge::new(false);
    let a = merge.enter(Source::Named("a".into()));
    let now = Instant::now();
    let umlaut = "ü".as_bytes();
    merge.add(a, &umlaut[..1], now);
    assert_eq!(text(&mut merge, now), "");
    merge.add(a, &umlaut[1..], now);
    assert_eq!(text(&mut merge, now), "a | ü");
    merge.add(a, &umlaut[..1], now);
    merge.leave(a);
    assert_eq!(text(&mut merge, now), "\\xc3");
}

#[test]
fn lost_log_lines_are_counted() {
    let mut merge = Merge::new(false);
    let program = merge.enter(Source::Program);
    let now = Instant::now();
    let line = [vec![b'x'; BUFFER - 100], vec![b'\n']].concat();
    merge.add_or_lose(program, &line, now);
    merge.add_or_lose(program, &line, now);
    merge.add_or_lose(program, &line, now);
    text(&mut merge, now);
    merge.add_or_lose(program, b"on\n", now);
    let written = text(&mut merge, now);
    assert!(written.starts_with("(2 log lines were lost"), "{written}");
    assert!(written.ends_with("\non\n"), "{written}");
}

#[test]
fn write_error_is_reported_once_closing_always() {
    let (mut merge, a, b, now) = two(false);
    merge.add(a, b"a\n", now);
    let chunk = merge.take(now).unwrap();
    let full = io::Error::from(io::ErrorKind::StorageFull);
    merge.written(chunk.lane, Err(full));
    let error = merge.room(a).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(merge.room(a).unwrap(), BUFFER);

    merge.add(a, b"a\n", now);
    merge.add(b, b"b\n", now);
    let chunk = merge.take(now).unwrap();
    merge.written(chunk.lane, Err(io::ErrorKind::BrokenPipe.into()));
    for lane in [a, b, a, b] {
        let error = merge.room(lane).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(merge.is_drained(lane, None));
    }
    assert_eq!(merge.take(now), None);
}

#[test]
fn left_lane_is_written_and_reused() {
    let (mut merge, a, b, now) = two(false);
    merge.add(a, b"last words", now);
    merge.leave(a);
    assert_eq!(text(&mut merge, now), "last words");
    let c = merge.enter(Source::Guest);
    assert_eq!(c, a);
    merge.add(c, b"c\n", now);
    assert_eq!(text(&mut merge, now), "\nc\n");
    merge.leave(b);
}
