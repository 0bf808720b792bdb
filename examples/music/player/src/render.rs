//! A minute of music, so that the example needs no recording. A small FM synthesizer with
//! an echo plays a score of chords, bass and melody. The samples are the same in every run.

use std::array;
use std::f32::consts::TAU;

use hound::{SampleFormat, WavSpec};

/// The format of the rendered music.
pub(crate) const SPEC: WavSpec = WavSpec {
    channels: 2,
    sample_rate: RATE,
    bits_per_sample: 16,
    sample_format: SampleFormat::Int,
};

/// The number of frames in the music.
pub(crate) const FRAMES: u32 = 60 * RATE;

const RATE: u32 = 44_100;

/// The music has 96 beats, which is 24 bars of four.
const FRAMES_PER_BEAT: f32 = FRAMES as f32 / 96.0;

/// Renders the music as interleaved samples, left and right.
pub(crate) fn render(samples: &mut [i16]) {
    let sine = Sine::new();
    let mut score = score();
    score.sort_by_key(|note| note.start);
    let mut notes = score.into_iter().peekable();
    let mut voices: Vec<Voice> = Vec::new();
    let mut echo = Echo::new();

    for (now, frame) in (0..).zip(samples.chunks_exact_mut(2)) {
        while let Some(note) = notes.next_if(|note| note.start <= now) {
            voices.push(Voice::new(&note));
        }
        let mut dry = [0.0; 2];
        voices.retain_mut(|voice| match voice.next(&sine) {
            Some([left, right]) => {
                dry[0] += left;
                dry[1] += right;
                true
            }
            None => false,
        });
        let wet = echo.next(dry);
        let fade = (FRAMES - now) as f32 / (3 * RATE) as f32;
        for ((sample, dry), wet) in frame.iter_mut().zip(dry).zip(wet) {
            let mixed = saturate(dry + wet) * fade.min(1.0);
            *sample = (mixed * 32767.0) as i16;
        }
    }
}

/// A note.
struct Note {
    /// The time, in frames.
    start: u32,
    held: u32,
    /// The key, as in MIDI: 69 is the A of 440 Hz.
    key: u8,
    loudness: f32,
    /// The place, from -1, left, to 1, right.
    pan: f32,
    patch: &'static Patch,
}

/// An instrument: one oscillator that modulates the phase of another.
struct Patch {
    /// The modulator's frequency, divided by the carrier's.
    ratio: f32,
    /// The modulation depth, in turns.
    depth: f32,
    /// The time in seconds until the depth is a third. The following times are in seconds
    /// as well.
    depth_decay: f32,
    attack: f32,
    /// The time until a held note is a third as loud.
    decay: f32,
    /// The same, after the key is released.
    release: f32,
}

const KEYS: Patch = Patch {
    ratio: 1.0,
    depth: 0.28,
    depth_decay: 0.5,
    attack: 0.004,
    decay: 1.4,
    release: 0.18,
};

const BASS: Patch = Patch {
    ratio: 1.0,
    depth: 0.45,
    depth_decay: 0.16,
    attack: 0.006,
    decay: 0.9,
    release: 0.07,
};

const BELL: Patch = Patch {
    ratio: 3.5,
    depth: 0.22,
    depth_decay: 0.3,
    attack: 0.002,
    decay: 0.7,
    release: 0.35,
};

const LEAD: Patch = Patch {
    ratio: 2.0,
    depth: 0.20,
    depth_decay: 0.9,
    attack: 0.03,
    decay: 2.5,
    release: 0.12,
};

const PAD: Patch = Patch {
    ratio: 0.5,
    depth: 0.06,
    depth_decay: 4.0,
    attack: 0.9,
    decay: 8.0,
    release: 0.8,
};

/// The chords of four bars each: the bass note, and the notes above it.
const VERSE: [(u8, [u8; 4]); 4] = [
    (45, [60, 64, 67, 71]), // A minor ninth
    (41, [60, 64, 65, 69]), // F major seventh
    (48, [59, 64, 67, 74]), // C major ninth
    (43, [59, 62, 67, 69]), // G, with the ninth
];
const BRIDGE: [(u8, [u8; 4]); 4] = [
    (50, [60, 62, 65, 69]), // D minor seventh
    (40, [59, 62, 64, 67]), // E minor seventh
    (41, [60, 64, 65, 69]), // F major seventh
    (43, [60, 62, 67, 71]), // G, held back and let go
];

/// Melodies over four bars: beat, length in beats, and key.
const VERSE_MELODY: &[(f32, f32, u8)] = &[
    (0.0, 1.0, 76),
    (1.5, 0.5, 79),
    (2.0, 1.5, 83),
    (3.5, 0.5, 81),
    (4.0, 2.0, 79),
    (6.5, 0.5, 76),
    (7.0, 1.0, 77),
    (8.0, 1.5, 79),
    (9.5, 0.5, 74),
    (10.0, 2.0, 76),
    (12.5, 0.5, 74),
    (13.0, 0.5, 71),
    (13.5, 2.0, 74),
];
const BRIDGE_MELODY: &[(f32, f32, u8)] = &[
    (0.5, 0.5, 69),
    (1.0, 0.5, 72),
    (1.5, 1.5, 77),
    (3.0, 1.0, 76),
    (4.5, 0.5, 71),
    (5.0, 0.5, 74),
    (5.5, 1.5, 79),
    (7.0, 1.0, 78),
    (8.0, 1.0, 81),
    (9.0, 1.0, 79),
    (10.0, 1.5, 77),
    (11.5, 0.5, 76),
    (12.0, 3.5, 74),
];

/// Returns all notes.
fn score() -> Vec<Note> {
    let mut score = Vec::new();
    for part in 0..6 {
        let beat = part as f32 * 16.0;
        let (chords, melody) = match part {
            3 => (&BRIDGE, BRIDGE_MELODY),
            _ => (&VERSE, VERSE_MELODY),
        };
        for (bar, (bass, chord)) in chords.iter().enumerate() {
            let beat = beat + bar as f32 * 4.0;
            play_pad(&mut score, beat, chord);
            play_keys(&mut score, beat, chord);
            if (1..5).contains(&part) {
                play_bass(&mut score, beat, *bass);
            }
            if part >= 3 {
                play_bells(&mut score, beat, chord);
            }
        }
        if (1..5).contains(&part) {
            for &(at, length, key) in melody {
                score.push(note(beat + at, length, key, 0.17, 0.1, &LEAD));
            }
        }
    }
    score
}

fn play_pad(score: &mut Vec<Note>, beat: f32, chord: &[u8; 4]) {
    for (key, pan) in chord.iter().zip([-0.8, 0.8, -0.5, 0.5]) {
        score.push(note(beat, 4.0, key - 12, 0.07, pan, &PAD));
    }
}

fn play_keys(score: &mut Vec<Note>, beat: f32, chord: &[u8; 4]) {
    for (at, length, loudness) in [(0.0, 1.4, 0.12), (1.5, 0.4, 0.08), (2.5, 1.3, 0.10)] {
        for (voice, &key) in chord.iter().enumerate() {
            // No musician plays four keys at exactly the same time.
            let late = voice as f32 * 0.015;
            let pan = voice as f32 * 0.2 - 0.5;
            score.push(note(beat + at + late, length, key, loudness, pan, &KEYS));
        }
    }
}

fn play_bass(score: &mut Vec<Note>, beat: f32, key: u8) {
    for (at, length, up) in [
        (0.0, 1.3, 0),
        (1.5, 0.4, 0),
        (2.0, 0.9, 7),
        (3.0, 0.4, 12),
        (3.5, 0.4, 7),
    ] {
        score.push(note(beat + at, length, key - 12 + up, 0.34, 0.0, &BASS));
    }
}

fn play_bells(score: &mut Vec<Note>, beat: f32, chord: &[u8; 4]) {
    for (step, voice) in (0_u8..8).zip([0, 2, 1, 3, 2, 3, 1, 2]) {
        let pan = if step % 2 == 0 { -0.7 } else { 0.7 };
        let at = beat + f32::from(step) * 0.5;
        score.push(note(at, 0.4, chord[voice] + 12, 0.06, pan, &BELL));
    }
}

fn note(beat: f32, length: f32, key: u8, loudness: f32, pan: f32, patch: &'static Patch) -> Note {
    Note {
        start: (beat * FRAMES_PER_BEAT) as u32,
        held: (length * FRAMES_PER_BEAT) as u32,
        key,
        loudness,
        pan,
        patch,
    }
}

/// A note that sounds.
struct Voice {
    carrier: Oscillator,
    modulator: Oscillator,
    depth: f32,
    depth_fall: f32,
    /// The attack, which rises from 0 to 1.
    attack: f32,
    attack_step: f32,
    level: f32,
    fall: f32,
    released_fall: f32,
    held: u32,
    sides: [f32; 2],
}

/// The level below which a voice has ended.
const INAUDIBLE: f32 = 1e-4;

impl Voice {
    fn new(note: &Note) -> Self {
        let patch = note.patch;
        let frequency = 440.0 * ((f32::from(note.key) - 69.0) / 12.0).exp2();
        let angle = (note.pan + 1.0) * TAU / 8.0;
        Self {
            carrier: Oscillator::new(frequency),
            modulator: Oscillator::new(frequency * patch.ratio),
            depth: patch.depth,
            depth_fall: fall(patch.depth_decay),
            attack: 0.0,
            attack_step: 1.0 / (patch.attack * RATE as f32),
            level: note.loudness,
            fall: fall(patch.decay),
            released_fall: fall(patch.release),
            held: note.held,
            sides: [angle.cos(), angle.sin()],
        }
    }

    fn next(&mut self, sine: &Sine) -> Option<[f32; 2]> {
        if self.held == 0 {
            self.level *= self.released_fall;
            if self.level < INAUDIBLE {
                return None;
            }
        } else {
            self.held -= 1;
            self.level *= self.fall;
        }
        self.depth *= self.depth_fall;
        self.attack = (self.attack + self.attack_step).min(1.0);
        let bend = sine.at(self.modulator.next()) * self.depth;
        let phase = self.carrier.next().wrapping_add(turns(bend));
        let value = sine.at(phase) * self.level * self.attack;
        Some(self.sides.map(|side| side * value))
    }
}

/// Returns the factor per frame that reduces a value to a third in `seconds`.
fn fall(seconds: f32) -> f32 {
    (-1.0 / (seconds * RATE as f32)).exp()
}

/// A phase that wraps around. A turn is 2^32.
struct Oscillator {
    phase: u32,
    step: u32,
}

impl Oscillator {
    fn new(frequency: f32) -> Self {
        Self {
            phase: 0,
            step: turns(frequency / RATE as f32),
        }
    }

    fn next(&mut self) -> u32 {
        let phase = self.phase;
        self.phase = phase.wrapping_add(self.step);
        phase
    }
}

/// Returns a phase offset of less than half a turn in either direction.
fn turns(turns: f32) -> u32 {
    ((turns * 4_294_967_296.0) as i32).cast_unsigned()
}

/// One turn of a sine, as a table: calling `sin` for each sample would take most of the
/// time.
struct Sine {
    table: [f32; 1 << Self::BITS],
}

impl Sine {
    const BITS: u32 = 11;

    fn new() -> Self {
        Self {
            table: array::from_fn(|n| (n as f32 * TAU / (1 << Self::BITS) as f32).sin()),
        }
    }

    fn at(&self, phase: u32) -> f32 {
        const MASK: u32 = (1 << Sine::BITS) - 1;
        const BELOW: u32 = 32 - Sine::BITS;
        let index = phase >> BELOW;
        let part = (phase & ((1 << BELOW) - 1)) as f32 / (1_u32 << BELOW) as f32;
        let here = self.table[index as usize];
        let there = self.table[((index + 1) & MASK) as usize];
        here + (there - here) * part
    }
}

/// An echo that alternates between the sides.
struct Echo {
    past: Vec<[f32; 2]>,
    at: usize,
}

impl Echo {
    fn new() -> Self {
        Self {
            past: vec![[0.0; 2]; (FRAMES_PER_BEAT * 0.75) as usize],
            at: 0,
        }
    }

    fn next(&mut self, [left, right]: [f32; 2]) -> [f32; 2] {
        let wet = self.past[self.at];
        self.past[self.at] = [left * 0.25 + wet[1] * 0.4, right * 0.25 + wet[0] * 0.4];
        self.at = (self.at + 1) % self.past.len();
        wet
    }
}

/// Limits loud samples smoothly, so that none exceeds 1.
fn saturate(x: f32) -> f32 {
    let x = x.clamp(-3.0, 3.0);
    x * (27.0 + x * x) / (27.0 + 9.0 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered() -> Vec<i16> {
        let mut samples = vec![0; 2 * FRAMES as usize];
        render(&mut samples);
        samples
    }

    #[test]
    fn music_has_about_ten_megabytes() {
        let bytes = u64::from(FRAMES) * 2 * size_of::<i16>() as u64;
        assert_eq!(bytes, 10_584_000);
    }

    #[test]
    fn every_bar_sounds_and_the_end_fades() {
        let samples = rendered();
        let bar = samples.len() / 24;
        for (number, bar) in samples.chunks(bar).take(23).enumerate() {
            let squares: f64 = bar.iter().map(|&x| f64::from(x).powi(2)).sum();
            let rms = (squares / bar.len() as f64).sqrt() / 32768.0;
            assert!((0.03..0.4).contains(&rms), "bar {number}: {rms}");
        }
        let loudest = samples.iter().map(|x| x.unsigned_abs()).max();
        assert!(
            loudest.is_some_and(|x| (12_000..24_000).contains(&x)),
            "{loudest:?}"
        );
        let last = &samples[samples.len() - 200..];
        assert!(last.iter().all(|x| x.unsigned_abs() < 50));
    }

    #[test]
    fn left_and_right_differ() {
        let samples = rendered();
        let differs = samples.chunks_exact(2).filter(|f| f[0] != f[1]).count();
        assert!(differs > FRAMES as usize / 2);
    }

    #[test]
    fn music_is_deterministic() {
        assert!(rendered() == rendered());
    }
}
