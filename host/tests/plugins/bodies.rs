//! No body costs a shipped plugin much, whatever is in it: a message that the gateway lets through may hold up nobody
//! but its sender.
//!
//! What counts is instructions, about twelve of which take a nanosecond of a plugin in Rust and eight of one in an
//! interpreter, and never a clock. Each plugin has a bound, and bodies made by hand that come near it; random ones look
//! for worse.

use std::cell::RefCell;
use std::fmt::Write as _;

use arcyou_plugin_host::tool::meter::Meter;
use arcyou_protocol::body::Body;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::shipped::shipped;
use crate::support::guests::{Dir, LIMITS, cache};

/// Random bodies for each plugin.
const CASES: u32 = 64;

/// Where a body that is as large as can be has its text.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// In one field, over and over.
    Text,
    /// There once, and then one string for each time.
    Strings,
    /// The same with fields.
    Fields,
    /// The same with as many arrays around each as may be.
    Nested,
    /// In the name of a field.
    Key,
    /// Half of it in the text, and half in strings.
    Both,
    /// Not repeated.
    Once,
}

const SHAPES: [Shape; 7] =
    [Shape::Text, Shape::Strings, Shape::Fields, Shape::Nested, Shape::Key, Shape::Both, Shape::Once];

impl Shape {
    fn body(self, unit: &str) -> Body {
        let quoted = serde_json::to_string(unit).unwrap();
        let escaped = &quoted[1..quoted.len() - 1];
        let room = LIMITS.max_bytes - 64;
        let times = |one: &str, room: usize| one.repeat((room / one.len()).max(1));
        let list = |one: String, room: usize| times(&format!("{one},"), room).trim_end_matches(',').to_owned();
        let depth = LIMITS.max_depth - 2;
        let text = match self {
            Self::Text => format!(r#"{{"text":"{}"}}"#, times(escaped, room)),
            Self::Once => format!(r#"{{"text":{quoted}}}"#),
            Self::Key => format!(r#"{{"text":"a","{}":0}}"#, times(escaped, room)),
            Self::Strings => format!(r#"{{"text":{quoted},"f":[{}]}}"#, list(quoted.clone(), room - quoted.len())),
            Self::Nested => {
                let nested = format!("{}{quoted}{}", "[".repeat(depth), "]".repeat(depth));
                format!(r#"{{"text":{quoted},"f":[{}]}}"#, list(nested, room - quoted.len()))
            }
            Self::Both => {
                format!(r#"{{"text":"{}","f":[{}]}}"#, times(escaped, room / 2), list(quoted.clone(), room / 2))
            }
            Self::Fields => {
                let mut body = format!(r#"{{"text":{quoted}"#);
                let mut index = 0;
                while body.len() + quoted.len() < room {
                    write!(body, r#","{index:x}":{quoted}"#).unwrap();
                    index += 1;
                }
                body + "}"
            }
        };
        Body::parse(&text, &LIMITS).unwrap()
    }
}

/// A plugin, and what its bodies are made of.
struct Subject {
    name: &'static str,
    /// What stands in `plugins.toml` beside its name and limits.
    settings: &'static str,
    /// The instructions of the worst body.
    bound: u64,
    /// What random texts are made of.
    parts: &'static [&'static str],
}

impl Subject {
    fn meter(&self, dir: &Dir) -> Meter {
        let file = format!("{}.wasm", self.name);
        dir.write(&file, &std::fs::read(shipped()[self.name].join(&file)).unwrap());
        // Neither time nor memory is what is measured.
        dir.manifest(&format!(
            "[[plugin]]\nname = {:?}\n{}\n[plugin.limits]\ndeadline_ms = 10000\nwall_ms = 10000\nstartup_ms = 60000\n\
             memory_mib = 512\n",
            self.name, self.settings
        ));
        Meter::load(&dir.path().join(file), &dir.path().join("plugins.toml"), Some(&cache())).unwrap()
    }

    /// Holds these texts in every shape to the bound, bodies that are made otherwise, and then random ones.
    fn hold(&self, worst_texts: &[&str]) {
        let (dir, worst) = (Dir::empty(), RefCell::new((0, String::new())));
        let meter = self.meter(&dir);
        let check = |body: Body| {
            let begin: String = body.as_str().chars().take(80).collect();
            let instructions = meter.count(body).unwrap();
            if instructions > worst.borrow().0 {
                worst.replace((instructions, begin.clone()));
            }
            let (name, bound) = (self.name, self.bound);
            assert!(instructions <= bound, "{name}: {instructions} instructions, above {bound}, for {begin}…");
        };
        worst_texts.iter().flat_map(|text| SHAPES.map(|shape| shape.body(text))).for_each(check);
        for text in worst_texts {
            let (body, stands) = (Shape::Text.body(text), Shape::Text.body(text));
            let instructions = meter.count_edit(body, stands).unwrap();
            assert!(instructions <= self.bound, "{}: {instructions} instructions for an edit: {text}", self.name);
        }
        of_no_texts().for_each(check);
        let random = (vec(select(self.parts), 1..200).prop_map(|parts| parts.concat()), select(&SHAPES[..]));
        let config =
            Config { cases: CASES, source_file: Some(file!()), test_name: Some(self.name), ..Config::default() };
        let outcome = TestRunner::new(config).run(&random, |(text, shape)| {
            check(shape.body(&text));
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let (instructions, begin) = worst.into_inner();
        println!("{}: {instructions} of {} instructions for {begin}…", self.name, self.bound);
    }
}

/// Bodies that cost by what they are, and not by their texts.
fn of_no_texts() -> impl Iterator<Item = Body> {
    let depth = LIMITS.max_depth - 2;
    let units = [
        "0".to_owned(),
        r#""""#.into(),
        "-1.25".into(),
        "[]".into(),
        "{}".into(),
        "[".repeat(depth) + &"]".repeat(depth),
    ];
    let objects = r#"{"":"#.repeat(depth) + "0" + &"}".repeat(depth);
    units.into_iter().chain([objects]).map(|unit| {
        let all = format!("{unit},").repeat((LIMITS.max_bytes - 64) / (unit.len() + 1));
        Body::parse(&format!(r#"{{"text":"a","f":[{}]}}"#, all.trim_end_matches(',')), &LIMITS).unwrap()
    })
}

/// What no plugin in particular looks for.
const WORST_FOR_ALL: [&str; 5] = ["a", "\n\"", "가", "e\u{301}", "😀"];

#[test]
fn body_shape_reads_the_names_of_fields() {
    // 11.6 million for short fields, each of which becomes an entry of a map.
    Subject {
        name: "body-shape",
        settings: "[plugin.config]\nmax_chars = 40000\nallow_unknown = true",
        bound: 20_000_000,
        parts: &["a", "가", "\n", " ", "👍"],
    }
    .hold(&WORST_FOR_ALL);
}

#[test]
fn pii_mask_reads_each_digit_a_few_times() {
    // 19 million for short phone numbers in strings of their own, and 16 million for digits alone. A search by regular
    // expressions made 240 million of digits, and 344 million of +821.
    let worst = [
        "0101234567",
        "a@b.co",
        "0",
        "4",
        "4 ",
        "44-",
        "4111111111111111 ",
        "010-1234-567",
        "+1",
        "+1(2",
        "+12 34 56 78 9 ",
        "+821",
        "(0",
        "02-",
        "02-123-4567 ",
        "0212345678 ",
        "900101-123456",
        "9001011234567 ",
        "a@",
        "@",
        "a@a.a@",
        "a@b.cc,",
        "a@b.co 02-123-4567 ",
    ];
    Subject {
        name: "pii-mask",
        settings: "",
        bound: 30_000_000,
        parts: &[
            "0",
            "1",
            "2",
            "4",
            "9",
            "010",
            "02",
            "1234",
            "5678",
            "900101",
            "1234567",
            "4111 1111 1111 1111",
            "-",
            " ",
            ".",
            "(",
            ")",
            "(0)",
            "+",
            "+82",
            "+1",
            "a@b.co",
            "a@",
            "@",
            "a",
            "가",
        ],
    }
    .hold(&[&WORST_FOR_ALL[..], &worst].concat());
}

#[test]
fn link_guard_looks_at_so_many_links() {
    // 29 million for strings of encoded domains, of which some hundred are read and the others removed unread; 180
    // million when all of them were read.
    let worst = [
        "f.b:",
        "xn--bcher-kva.co ",
        "h:",
        ":",
        "1.1 ",
        "data:",
        "ab:-",
        "x.co ",
        "x.co,",
        "ü.co ",
        "ü.co,",
        "ü.ü",
        "http:a ",
        "http:x.co ",
        "http:",
        "a:b://x.co ",
        "http://ü.한국 ",
        "http://ü.",
        "http://a@",
        "http://[::1] ",
        "안녕。하세요 ",
        "안녕.하세요 ",
        "ﷺ.co ",
        "ü\u{316}\u{301}.co ",
        "http://ﷺ.co ",
        "javascript:a ",
        "+.",
        "//",
        "a.b@",
    ];
    for settings in [
        "[plugin.config]\ndeny = [\"evil.example\", \"나쁜.한국\"]",
        "[plugin.config]\naction = \"strip\"\nallow = [\"good.example\"]",
        "[plugin.config]\naction = \"strip\"\nprivate_hosts = true",
    ] {
        Subject {
            name: "link-guard",
            settings,
            bound: 40_000_000,
            parts: &[
                "http",
                "https",
                "://",
                ":",
                "//",
                "/",
                "a",
                "example",
                ".",
                ".co",
                ".한국",
                "。",
                "ü",
                "가",
                "xn--",
                "@",
                "%61",
                " ",
                ",",
                "1",
                "[::1]",
                "javascript:",
                "data:",
                "?",
                "#",
                "ﷺ",
                "\u{301}",
            ],
        }
        .hold(&[&WORST_FOR_ALL[..], &worst].concat());
    }
}

#[test]
fn word_filter_folds_each_character_once() {
    // 31 million for listed words at each letter, and nearly as much for letters with an accent each, which are
    // composed. A listed word among ﷺ, each of which stands for eighteen letters, made 363 million.
    let worst = [
        "badword ",
        "badword",
        "나쁜말",
        "나쁜말",
        "b\u{301}",
        "badword \u{316}\u{301}",
        "badword ﷺ",
        "ﷺ",
        "ﬃ",
        "ΐ",
        "ß",
        "ᾂ",
        "ａ",
        "ㅂㅏ",
        "\u{ad}",
        "b\u{200b}",
        "xforbidden",
        "badword\u{301}",
        "İ",
        "\u{316}\u{301}",
    ];
    for inside_words in [false, true] {
        let settings = format!(
            "[plugin.config]\nmask = [\"badword\", \"나쁜말\", \"aa\", \"adw\"]\n\
             reject = [\"forbidden\"]\ninside_words = {inside_words}"
        );
        Subject {
            name: "word-filter",
            settings: settings.leak(),
            bound: 50_000_000,
            parts: &[
                "badword",
                "BADWORD",
                "bad",
                "a",
                "aa",
                "나쁜",
                "말",
                "forbidde",
                " ",
                "ß",
                "ﷺ",
                "ﬃ",
                "é",
                "e\u{301}",
                "\u{316}\u{301}",
                "\u{ad}",
                "ㅂ",
                "ㅏ",
                "ａ",
                "😀",
                "𝐚",
                "İ",
            ],
        }
        .hold(&[&WORST_FOR_ALL[..], &worst].concat());
    }
}

#[test]
fn flood_guard_folds_the_beginning() {
    // 5.3 million for ẞ, and twice as many for an edit; 24 million when case did not count in all of the text.
    Subject {
        name: "flood-guard",
        settings: "grants = [\"kv\"]\n[plugin.config]\nmessages = 4000000000\nrepeats = 4000000000",
        bound: 16_000_000,
        parts: &["a", "B", "İ", "ẞ", "é", "가", "宋", "𐐀", "!", " ", "1"],
    }
    .hold(&[&WORST_FOR_ALL[..], &["ẞ", "İ", "!", "𐐀", "宋"]].concat());
}

#[test]
fn toxicity_hook_writes_the_text_down() {
    // 3.6 million for a text in which every character is escaped. No service answers here: an answer is the operator's.
    Subject {
        name: "toxicity-hook",
        settings: "grants = [\"http\"]\n[plugin.http]\nhosts = [\"http://127.0.0.1:1\"]\n\
                   [plugin.config]\nurl = \"http://127.0.0.1:1/score\"",
        bound: 6_000_000,
        parts: &["a", "가", "\n", "\u{3000}", " ", "\\", "\""],
    }
    .hold(&[&WORST_FOR_ALL[..], &["\u{3000}", " "]].concat());
}

/// 34 million are JavaScript's for reading nested arrays.
#[test]
fn mention_limit_reads_the_names_behind_so_many_signs() {
    // 578 million were made of @ﷺ when the whole text was normalised and searched.
    let names = format!("@{}", "ﷺ".repeat(230));
    let worst = ["@", "@a", "@a ", "@é ", "@ﷺ", &names, "@everyone은", "@모두", "a@", "＠a ", "@a.-"];
    Subject {
        name: "mention-limit",
        settings: "",
        bound: 60_000_000,
        parts: &["@", "＠", "﹫", "a", "é", "가", "ﷺ", "everyone", "모두", "은", ".", "-", "_", " ", "\u{301}", "𝐚"],
    }
    .hold(&[&WORST_FOR_ALL[..], &worst].concat());
}

#[test]
fn script_guard_judges_each_character_once() {
    // 80 million for as many different characters as may be. Accents alone made 2.6 billion when the whole text was
    // normalised, ﷺ a billion.
    let different: String = ('\u{4e00}'..).take(3_999).collect();
    let accents = format!("a{}", "\u{316}\u{301}".repeat(1_999));
    let worst = [&different, &accents, &"ﷺ".repeat(3_999), &"а ".repeat(1_999), &"а a".repeat(1_333)];
    let worst: Vec<&str> = worst.into_iter().map(String::as_str).collect();
    Subject {
        name: "script-guard",
        settings: "[plugin.config]\nallow = [\"HANGUL\", \"LATIN\"]",
        bound: 120_000_000,
        parts: &["a", "а", "가", "漢", "é", "e\u{301}", "\u{316}\u{301}", "ﷺ", "ａ", "1", " ", "😀"],
    }
    .hold(&[&WORST_FOR_ALL[..], &worst].concat());
}
