//! Who gets in when there are too many.

use super::*;

const CERTAIN: u32 = 0;
const LUCKY: u32 = 99;

fn source(last: u32) -> Source {
    Source::of(std::net::Ipv4Addr::from_bits(0xc000_0200 + last).into())
}

fn limits(start: u16, full: u16) -> ConnectionLimits {
    let startups = MaxStartups { start, full, ..MaxStartups::default() };
    ConnectionLimits { startups, ..ConnectionLimits::default() }
}

fn admission(limits: ConnectionLimits) -> Admission {
    Admission::new(limits, 1000)
}

fn alice() -> Username {
    Username::parse("alice").unwrap()
}

fn living(tickets: &[Ticket]) -> usize {
    tickets.iter().filter(|ticket| !ticket.evicted.is_cancelled()).count()
}

/// T3
#[test]
fn one_who_floods_is_bounded_and_keeps_nobody_else_out() {
    let admission = admission(limits(10, 30));

    let flood: Vec<_> = (0..600).filter_map(|_| admission.admit(source(2)).ok()).collect();
    assert!((10..=30).contains(&flood.len()), "{}", flood.len());
    for _ in 0..600 {
        let other = admission.admit_by_lot(source(3), CERTAIN).unwrap();
        assert!(other.logged_in());
    }
    assert!(admission.state().startups <= 30);
}

#[test]
fn several_who_flood_hurt_each_other_and_not_the_one_who_comes_once() {
    let admission = admission(limits(10, 30));
    let floods: Vec<_> = (0..600).filter_map(|nth| admission.admit(source(nth % 3)).ok()).collect();

    let user = admission.admit_by_lot(source(9), CERTAIN).unwrap();
    let more: Vec<_> = (0..600).filter_map(|nth| admission.admit(source(nth % 3)).ok()).collect();

    assert!(living(&floods) + living(&more) < 30);
    assert!(user.logged_in());
}

#[test]
fn the_oldest_of_the_source_with_the_most_goes() {
    let admission = admission(limits(5, 5));
    let many: Vec<_> = (0..3).map(|_| admission.admit(source(1)).unwrap()).collect();
    let few: Vec<_> = (0..2).map(|_| admission.admit(source(2)).unwrap()).collect();

    let newcomer = admission.admit(source(3)).unwrap();

    assert_eq!(
        many.iter().map(|ticket| ticket.evicted.is_cancelled()).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(living(&few), 2);
    assert!(!newcomer.evicted.is_cancelled());
    assert!(!many[0].logged_in() && many[1].logged_in());
}

#[test]
fn between_equals_the_newcomer_goes() {
    let admission = admission(limits(3, 3));
    let _held: Vec<_> = (1..=3).map(|last| admission.admit(source(last)).unwrap()).collect();

    assert_eq!(admission.admit(source(4)).unwrap_err(), Refusal::TooManyStartups);
    assert_eq!(admission.admit(source(1)).unwrap_err(), Refusal::TooManyStartups);
}

#[test]
fn the_chance_grows_from_the_rate_to_certainty_as_at_openssh() {
    let admission = admission(limits(10, 30));
    let mut held = Vec::new();
    let mut chances = Vec::new();

    while held.len() < 30 {
        chances.push(admission.state().chance_of_loss());
        held.push(admission.admit_by_lot(source(1), LUCKY).unwrap());
    }

    assert_eq!((chances[9], chances[10], chances[20], chances[29]), (0, 30, 65, 96));
    assert_eq!(admission.state().chance_of_loss(), 100);
    assert!(admission.admit_by_lot(source(1), LUCKY).is_err());
}

/// L11
#[test]
fn many_logins_at_once_from_one_address_are_welcome_and_do_not_count_afterwards() {
    let admission = admission(ConnectionLimits::default());
    let mut all = Vec::new();

    for _ in 0..10 {
        let batch: Vec<_> = (0..50).map(|_| admission.admit_by_lot(source(1), CERTAIN).unwrap()).collect();
        assert!(batch.iter().all(Ticket::logged_in));
        all.extend(batch);
    }

    let counts = || {
        let state = admission.state();
        (state.startups, state.connections, state.sources.len())
    };
    assert_eq!(counts(), (0, 500, 1));
    drop(all);
    assert_eq!(counts(), (0, 0, 0));
}

#[test]
fn at_the_total_one_that_has_not_logged_in_makes_place_but_none_that_has() {
    let admission = Admission::new(limits(100, 300), 4);
    let held: Vec<_> = (0..4).map(|_| admission.admit(source(1)).unwrap()).collect();
    assert_eq!(admission.admit(source(1)).unwrap_err(), Refusal::TooMany);

    let other = admission.admit(source(2)).unwrap();
    assert_eq!(living(&held), 3);
    assert!(held.iter().skip(1).chain([&other]).all(Ticket::logged_in));

    assert_eq!(admission.admit(source(3)).unwrap_err(), Refusal::TooMany);
    drop(held);
    assert!(admission.admit(source(3)).is_ok());
}

#[test]
fn a_configured_total_does_not_lift_the_ceiling() {
    for (connections, most) in [(2, 2), (0, 5), (50, 5)] {
        let admission = Admission::new(ConnectionLimits { connections, ..limits(100, 300) }, 5);

        let held: Vec<_> = (0..10).map_while(|_| admission.admit(source(1)).ok()).collect();

        assert_eq!(held.len(), most);
    }
}

#[test]
fn a_source_has_its_own_limit_that_counts_those_who_are_in() {
    let admission = admission(ConnectionLimits { per_source: 2, ..limits(100, 300) });
    let held: Vec<_> = (0..2).map(|_| admission.admit(source(1)).unwrap()).collect();
    assert!(held.iter().all(Ticket::logged_in));

    assert_eq!(admission.admit(source(1)).unwrap_err(), Refusal::TooManyOfSource);
    assert!(admission.admit(source(2)).is_ok());
    drop(held);
    assert!(admission.admit(source(1)).is_ok());
}

#[test]
fn a_user_has_a_limit_wherever_the_connections_come_from() {
    let admission = admission(ConnectionLimits { per_user: 2, ..limits(100, 300) });
    let first = admission.logged_in(&alice()).unwrap();
    let _second = admission.logged_in(&alice()).unwrap();

    assert_eq!(admission.logged_in(&alice()).unwrap_err(), TooMany(2));
    let _other = admission.logged_in(&Username::parse("bob").unwrap()).unwrap();
    drop(first);
    assert!(admission.logged_in(&alice()).is_ok());

    admission.configure(limits(100, 300));
    let many: Vec<_> = (0..50).map(|_| admission.logged_in(&alice()).unwrap()).collect();
    drop(many);
    assert_eq!(admission.state().users[&alice()], 1);
}

/// T11
#[test]
fn behind_a_proxy_the_one_who_floods_is_told_from_the_others() {
    let admission = admission(ConnectionLimits { per_source: 50, ..limits(10, 30) });
    let proxy = source(100);
    let come = |last: u32| {
        let mut ticket = admission.admit_proxy(proxy)?;
        ticket.identify_by_lot(source(last), CERTAIN)?;
        Ok::<_, Refusal>(ticket)
    };

    let flood: Vec<_> = (0..200).filter_map(|_| come(1).ok()).collect();
    let user = come(2).unwrap();

    assert_eq!(living(&flood), 9);
    assert!(user.logged_in());
    assert!(!admission.state().sources.contains_key(&proxy));
}

/// T11
#[test]
fn what_a_proxy_has_not_identified_does_not_escape_the_bounds() {
    let admission = admission(limits(10, 30));
    let proxy = source(100);

    let mut silent: Vec<_> = (0..200).filter_map(|_| admission.admit_proxy(proxy).ok()).collect();

    assert_eq!(silent.len(), 30);
    assert!(admission.admit(source(1)).is_ok());
    let mut evicted = silent.remove(0);
    assert!(evicted.identify(source(2)).is_err());
    drop(evicted);
    assert_eq!(admission.state().startups, 29);
}
