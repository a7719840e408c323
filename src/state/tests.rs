use std::time::Duration;

use super::*;
use crate::faults::{self, Args};
use crate::rules::{FaultSpec, Matcher, Mode};

fn rule(name: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        proxies: None,
        enabled: true,
        matcher: Matcher::default(),
        probability: 1.0,
        skip: 0,
        limit: None,
        max_active: None,
        ttl: Ttl::Unsaid,
        dry_run: false,
        direction: None,
        fault: FaultSpec::new(faults::find("drop").unwrap(), Args::default()).unwrap(),
    }
}

fn partition(name: &str) -> Partition {
    Partition {
        name: name.to_owned(),
        between: vec![vec!["client".to_owned()], vec!["payment".to_owned()]],
        deaf: Vec::new(),
        mode: Mode::Blackhole,
        enabled: true,
        ttl: Ttl::Unsaid,
    }
}

fn state() -> State {
    let state = State::default();
    let edge = Edge::new("payment", "127.0.0.1:0", "127.0.0.1:1");
    state
        .apply(vec![Change::AddEdge(edge)], Source::File)
        .unwrap();
    state
}

fn enabled(state: &State) -> Vec<(String, bool)> {
    let (_, rules) = state.rules();
    rules
        .iter()
        .map(|d| (d.definition.name.clone(), d.definition.enabled))
        .collect()
}

#[test]
fn a_change_is_whole_or_nothing() {
    let state = state();
    let before = state.generation();
    let refused = state.apply(
        vec![
            Change::AddRule(rule("a")),
            Change::RemoveRule("b".to_owned()),
        ],
        Source::Api,
    );
    assert_eq!(refused, Err(Refused::NotFound("rule", "b".to_owned())));
    assert_eq!(state.generation(), before);
    assert!(enabled(&state).is_empty());
}

#[test]
fn a_change_made_from_what_is_no_longer_in_force_is_not_applied() {
    let state = state();
    let read = state.generation();
    state.apply(vec![Change::Heal], Source::Api).unwrap();
    let add = || vec![Change::AddRule(rule("a"))];
    assert_eq!(state.apply_at(read, add(), Source::Api), Ok(None));
    assert!(enabled(&state).is_empty());
    let now = state.generation();
    assert_eq!(state.apply_at(now, add(), Source::Api), Ok(Some(now + 1)));
}

#[test]
fn unchanged_rules_keep_their_counts_and_changed_ones_are_lifted() {
    let state = state();
    let set = || state.snapshot().rules_of("payment", Protocol::Tcp);
    state
        .apply(vec![Change::AddRule(rule("a"))], Source::File)
        .unwrap();
    let first = Arc::clone(&set().rules[0]);
    state
        .apply(
            vec![Change::AddRule(rule("b")), Change::PutRule(rule("a"))],
            Source::File,
        )
        .unwrap();
    assert!(Arc::ptr_eq(&first, &set().rules[0]) && !first.is_lifted());
    let mut other = rule("a");
    other.probability = 0.5;
    state
        .apply(vec![Change::PutRule(other)], Source::Api)
        .unwrap();
    assert!(first.is_lifted());
    assert_eq!(set().rules.len(), 2);
}

#[test]
fn heal_disables_everything_and_keeps_the_definitions() {
    let state = state();
    state
        .apply(
            vec![
                Change::AddRule(rule("a")),
                Change::AddPartition(partition("split")),
            ],
            Source::File,
        )
        .unwrap();
    let set = state.snapshot().rules_of("payment", Protocol::Tcp);
    assert_eq!((set.rules.len(), set.cuts.len()), (1, 1));
    state.apply(vec![Change::Heal], Source::Api).unwrap();
    assert!(
        state
            .snapshot()
            .rules_of("payment", Protocol::Tcp)
            .is_empty()
    );
    assert!(set.rules[0].is_lifted() && set.cuts[0].partition.is_healed());
    assert_eq!(enabled(&state), [("a".to_owned(), false)]);
    assert_eq!(state.partitions().1.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_makes_expires_and_what_the_file_says_stays() {
    let state = Arc::new(state());
    let expiring = tokio::spawn({
        let state = Arc::clone(&state);
        async move { state.expire().await }
    });
    let mut short = rule("short");
    short.ttl = Ttl::For(Duration::from_secs(1));
    let mut forever = rule("forever");
    forever.ttl = Ttl::Forever;
    state
        .apply(vec![Change::AddRule(rule("file"))], Source::File)
        .unwrap();
    let api = [rule("unsaid"), short, forever]
        .map(Change::AddRule)
        .to_vec();
    state.apply(api, Source::Api).unwrap();
    let on = || {
        let all = enabled(&state).into_iter();
        all.filter(|(_, on)| *on)
            .map(|(n, _)| n)
            .collect::<Vec<_>>()
    };
    tokio::time::sleep(Duration::from_millis(999)).await;
    assert_eq!(on(), ["file", "unsaid", "short", "forever"]);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(on(), ["file", "unsaid", "forever"]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(on(), ["file", "forever"]);
    // Switched on again by the API, the file's rule has a lifetime too.
    let switch = |on| Change::SwitchRule("file".to_owned(), on, Ttl::Unsaid);
    state.apply(vec![switch(false)], Source::Api).unwrap();
    state.apply(vec![switch(true)], Source::Api).unwrap();
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(on(), ["forever"]);
    state.stop(Stopping::Now);
    expiring.await.unwrap();
}

#[test]
fn a_proxy_that_rules_name_is_not_forgotten() {
    let state = state();
    let mut named = rule("a");
    named.proxies = Some(vec!["payment".to_owned()]);
    state
        .apply(vec![Change::AddRule(named)], Source::Api)
        .unwrap();
    let gone = || state.apply(vec![Change::RemoveEdge("payment".to_owned())], Source::Api);
    assert_eq!(
        gone(),
        Err(Refused::InUse("payment".to_owned(), "a".to_owned()))
    );
    state
        .apply(vec![Change::RemoveRule("a".to_owned())], Source::Api)
        .unwrap();
    gone().unwrap();
}
