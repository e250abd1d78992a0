#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

const LIMITS: HoldLimits = HoldLimits { items: 8, bytes: 100 };

fn offer(sequence: &mut Resequencer<Seq>, seq: Seq) -> (Offered, Vec<Seq>) {
    let mut out = Vec::new();
    let offered = sequence.offer(seq, seq, 1, &mut |_, item| out.push(item));
    (offered, out)
}

fn started(base: Seq) -> Resequencer<Seq> {
    let mut sequence = Resequencer::new(LIMITS);
    sequence.start(base, &mut |_, _| unreachable!("nothing is held"));
    sequence
}

#[test]
fn what_is_next_passes_and_what_is_not_waits() {
    let mut sequence = started(3);
    assert_eq!(offer(&mut sequence, 5), (Offered::Held, vec![]));
    assert_eq!(offer(&mut sequence, 5), (Offered::Duplicate, vec![]));
    assert_eq!(offer(&mut sequence, 3), (Offered::Duplicate, vec![]));
    assert!(sequence.wants_listing());
    assert_eq!(offer(&mut sequence, 4), (Offered::Delivered, vec![4, 5]));
    assert!(!sequence.wants_listing());
}

#[test]
fn before_the_base_is_known_everything_waits() {
    let mut sequence = Resequencer::new(LIMITS);
    for seq in [7, 5, 6, 9] {
        assert_eq!(offer(&mut sequence, seq).0, Offered::Held);
    }
    assert!(!sequence.wants_listing() && sequence.listing().is_none());
    let mut out = Vec::new();
    sequence.start(5, &mut |_, item| out.push(item));
    assert_eq!(out, [6, 7]);
    sequence.start(0, &mut |_, _| unreachable!("there is a base"));
    assert_eq!(sequence.delivered(), Some(7));
}

#[test]
fn a_forged_message_is_dropped_when_the_store_does_not_have_it() {
    let mut sequence = started(5);
    offer(&mut sequence, 1000);
    let listing = sequence.listing().unwrap();
    // While the store is asked, a message arrives that the listing cannot contain.
    offer(&mut sequence, 7);
    sequence.fill(listing, [], true, &mut |_, _| unreachable!("nothing is next"));
    assert!(sequence.wants_listing(), "the newer one still waits");
    assert_eq!(offer(&mut sequence, 6), (Offered::Delivered, vec![6, 7]));
    assert!(!sequence.wants_listing());
}

#[test]
fn a_hole_in_the_store_is_passed_over() {
    let mut sequence = started(5);
    offer(&mut sequence, 9);
    let listing = sequence.listing().unwrap();
    let mut out = Vec::new();
    sequence.fill(listing, [(8, 8)], false, &mut |_, item| out.push(item));
    assert_eq!(out, [8, 9], "6 and 7 were deleted");
}

#[test]
fn what_overflows_is_known_to_be_missing_until_a_listing_was_complete() {
    let mut sequence = started(0);
    for seq in 2..30 {
        offer(&mut sequence, seq);
    }
    assert_eq!(sequence.held(), (8, 8));
    assert_eq!(offer(&mut sequence, 1).1, (1..10).collect::<Vec<_>>(), "the nearest were kept");
    assert!(sequence.wants_listing());
    let listing = sequence.listing().unwrap();
    let mut out = Vec::new();
    sequence.fill(listing, (10..30).map(|seq| (seq, seq)), true, &mut |_, item| out.push(item));
    assert_eq!(out, (10..30).collect::<Vec<_>>());
    assert!(!sequence.wants_listing());
}

/// What happens to a sequence, in any order.
#[derive(Debug, Clone)]
enum Step {
    /// The next message is committed.
    Commit,
    /// One of the committed messages arrives: maybe for the first time, maybe not.
    Arrive(prop::sample::Index),
    /// Somebody publishes a message that does not exist.
    Forge(Seq),
    /// The store is asked for a page, which is read at once.
    Ask {
        limit: usize,
    },
    Answer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Commit),
        6 => any::<prop::sample::Index>().prop_map(Step::Arrive),
        1 => (30..90_i64).prop_map(Step::Forge),
        1 => (1..9_usize).prop_map(|limit| Step::Ask { limit }),
        2 => Just(Step::Answer),
    ];
    prop::collection::vec(step, 0..120)
}

/// A store of which messages may have been deleted, and a page of it that is under way.
#[derive(Default)]
struct World {
    committed: Vec<Seq>,
    last: Seq,
    under_way: Option<(Listing, Vec<Seq>, bool)>,
    out: Vec<Seq>,
}

impl World {
    fn page(&self, after: Seq, limit: usize) -> (Vec<Seq>, bool) {
        let page: Vec<Seq> = self.committed.iter().copied().filter(|seq| *seq > after).take(limit).collect();
        let complete = page.len() < limit;
        (page, complete)
    }

    fn step(&mut self, sequence: &mut Resequencer<Seq>, step: &Step) {
        let out = &mut self.out;
        let mut deliver = |seq: Seq, item: Seq| {
            assert_eq!(seq, item);
            out.push(item);
        };
        match step {
            Step::Commit => {
                self.last += 1;
                self.committed.push(self.last);
            }
            Step::Arrive(_) if self.committed.is_empty() => {}
            Step::Arrive(which) => {
                let seq = *which.get(&self.committed);
                sequence.offer(seq, seq, 20, &mut deliver);
            }
            // Only what cannot be next: one row of the outbox that claims the next place cannot be told from the truth.
            Step::Forge(seq) if *seq > self.last + 1 => {
                sequence.offer(*seq, *seq, 20, &mut deliver);
            }
            Step::Forge(_) => {}
            Step::Ask { limit } => {
                if let (None, Some(listing)) = (&self.under_way, sequence.listing()) {
                    let (page, complete) = self.page(listing.after, *limit);
                    self.under_way = Some((listing, page, complete));
                }
            }
            Step::Answer => {
                if let Some((listing, page, complete)) = self.under_way.take() {
                    sequence.fill(listing, page.into_iter().map(|seq| (seq, seq)), complete, &mut deliver);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn every_message_is_delivered_once_in_order_without_holes(base in 0..5_i64, early in steps(), late in steps()) {
        let mut sequence = Resequencer::new(LIMITS);
        let mut world = World::default();
        for step in &early {
            world.step(&mut sequence, step);
            prop_assert!(world.out.is_empty());
        }
        let base = base.min(world.last);
        let out = &mut world.out;
        sequence.start(base, &mut |_, item| out.push(item));
        for step in &late {
            world.step(&mut sequence, step);
            let (items, bytes) = sequence.held();
            prop_assert!(items <= LIMITS.items && bytes <= LIMITS.bytes);
            let expected: Vec<Seq> = (base + 1..).take(world.out.len()).collect();
            // A forged message may be delivered only when its place had come, so none shows before the store's end.
            let real = world.out.iter().filter(|seq| **seq <= world.last).count();
            prop_assert_eq!(&world.out[..real], &expected[..real]);
        }
        // Quiet at last: as the repair does, list until a listing is complete and nothing waits.
        world.step(&mut sequence, &Step::Answer);
        sequence.mark_missing();
        for _ in 0..1000 {
            if !sequence.wants_listing() {
                break;
            }
            world.step(&mut sequence, &Step::Ask { limit: 3 });
            world.step(&mut sequence, &Step::Answer);
        }
        prop_assert!(!sequence.wants_listing());
        let real: Vec<Seq> = world.out.iter().copied().filter(|seq| *seq <= world.last).collect();
        prop_assert_eq!(real, (base + 1..=world.last).collect::<Vec<_>>());
        let all: Vec<Seq> = (base + 1..).take(world.out.len()).collect();
        prop_assert_eq!(&world.out, &all);
    }

    #[test]
    fn holes_of_deleted_messages_never_stop_the_rest(
        deleted in prop::collection::btree_set(1..60_i64, 0..30),
        arrivals in prop::collection::vec(1..60_i64, 0..80),
    ) {
        let stored: Vec<Seq> = (1..60).filter(|seq| !deleted.contains(seq)).collect();
        let mut sequence = started(0);
        let mut out = Vec::new();
        for seq in arrivals.into_iter().filter(|seq| !deleted.contains(seq)) {
            sequence.offer(seq, seq, 1, &mut |_, item| out.push(item));
        }
        sequence.mark_missing();
        while sequence.wants_listing() {
            let listing = sequence.listing().unwrap();
            let page: Vec<Seq> = stored.iter().copied().filter(|seq| *seq > listing.after).take(4).collect();
            let complete = page.len() < 4;
            sequence.fill(listing, page.into_iter().map(|seq| (seq, seq)), complete, &mut |_, item| out.push(item));
        }
        prop_assert_eq!(out, stored);
    }
}
