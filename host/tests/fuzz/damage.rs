//! Valid samples, and what can happen to them. A sample is a list of pieces, such as the lines of a file, so that
//! damage keeps much of a format's shape and gets behind its first check.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// What is put around a piece many times over: what nests in JSON, in TOML, and in TOML's keys.
const NESTS: [(&str, &str); 4] = [("[", "]"), ("{\"a\":", "}"), ("{a=", "}"), ("a.", "")];
const MAX_DEPTH: usize = 3000;

/// A valid input.
pub struct Sample {
    pub pieces: Vec<Vec<u8>>,
    /// Puts pieces together again.
    pub join: fn(&[Vec<u8>]) -> Vec<u8>,
}

impl Sample {
    /// These fields as a JSON object.
    pub fn object<'a>(fields: impl IntoIterator<Item = &'a str>) -> Self {
        let pieces = fields.into_iter().map(|field| field.as_bytes().to_vec()).collect();
        Self { pieces, join: |fields| [b"{".as_slice(), &fields.join(&b','), b"}"].concat() }
    }

    /// A text in its lines.
    pub fn lines(text: &str) -> Self {
        let pieces = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        Self { pieces, join: |lines| lines.join(&b'\n') }
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Flip { piece: Index, at: Index, bits: u8 },
    Insert { piece: Index, at: Index, bytes: Vec<u8> },
    Shorten { piece: Index, at: Index },
    Drop { piece: Index },
    Repeat { piece: Index, to: Index, times: usize },
    Splice { to: Index, sample: Index, piece: Index },
    Nest { piece: Index, kind: usize, depth: usize },
}

/// A sample and what happens to it.
#[derive(Debug, Clone)]
pub struct Damaged {
    sample: Index,
    damages: Vec<Damage>,
    /// Where it ends, if not at its end.
    cut: Option<Index>,
}

/// Any damage to any sample.
pub fn damaged() -> impl Strategy<Value = Damaged> {
    let cut = proptest::option::weighted(0.1, any::<Index>());
    // Mostly little: what is broken all over is refused at the first look.
    let damages = prop_oneof![4 => vec(damage(), 1), 2 => vec(damage(), 2..4), 1 => vec(damage(), 4..8)];
    (any::<Index>(), damages, cut).prop_map(|(sample, damages, cut)| Damaged { sample, damages, cut })
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), index(), 1..=u8::MAX).prop_map(|(piece, at, bits)| Damage::Flip { piece, at, bits }),
        2 => (index(), index(), vec(any::<u8>(), 1..8))
            .prop_map(|(piece, at, bytes)| Damage::Insert { piece, at, bytes }),
        1 => (index(), index()).prop_map(|(piece, at)| Damage::Shorten { piece, at }),
        2 => index().prop_map(|piece| Damage::Drop { piece }),
        2 => (index(), index(), 1..20_usize).prop_map(|(piece, to, times)| Damage::Repeat { piece, to, times }),
        4 => (index(), index(), index()).prop_map(|(to, sample, piece)| Damage::Splice { to, sample, piece }),
        1 => (index(), 0..NESTS.len(), 1..MAX_DEPTH).prop_map(|(piece, kind, depth)| Damage::Nest { piece, kind, depth }),
    ]
}

impl Damaged {
    pub fn bytes(&self, samples: &[Sample]) -> Vec<u8> {
        let sample = self.sample.get(samples);
        let mut pieces = sample.pieces.clone();
        for damage in &self.damages {
            // Everything may have been dropped.
            if !pieces.is_empty() {
                damage.apply(&mut pieces, samples);
            }
        }
        let mut bytes = (sample.join)(&pieces);
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    }

    /// For what takes text: a frame is checked before it gets there, and a file when it is read.
    pub fn text(&self, samples: &[Sample]) -> String {
        String::from_utf8_lossy(&self.bytes(samples)).into_owned()
    }
}

impl Damage {
    fn apply(&self, pieces: &mut Vec<Vec<u8>>, samples: &[Sample]) {
        let count = pieces.len();
        match self {
            Self::Flip { piece, at, bits } => {
                let piece = &mut pieces[piece.index(count)];
                if !piece.is_empty() {
                    let at = at.index(piece.len());
                    piece[at] ^= bits;
                }
            }
            Self::Insert { piece, at, bytes } => {
                let piece = &mut pieces[piece.index(count)];
                let at = at.index(piece.len() + 1);
                piece.splice(at..at, bytes.iter().copied());
            }
            Self::Shorten { piece, at } => {
                let piece = &mut pieces[piece.index(count)];
                piece.truncate(at.index(piece.len() + 1));
            }
            Self::Drop { piece } => drop(pieces.remove(piece.index(count))),
            Self::Repeat { piece, to, times } => {
                let (piece, to) = (pieces[piece.index(count)].clone(), to.index(count + 1));
                pieces.splice(to..to, std::iter::repeat_n(piece, *times));
            }
            Self::Splice { to, sample, piece } => {
                pieces[to.index(count)] = piece.get(&sample.get(samples).pieces).clone();
            }
            Self::Nest { piece, kind, depth } => {
                let piece = &mut pieces[piece.index(count)];
                let (open, close) = NESTS[*kind];
                *piece = [open.repeat(*depth).as_bytes(), piece, close.repeat(*depth).as_bytes()].concat();
            }
        }
    }
}
