use std::time::Duration;

use super::*;
use crate::clock;
use crate::faults::{self, Args};
use crate::rules::{FaultSpec, Matcher, Mode, Shape, Start, Timetable};

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
        timetable: None,
        fault: FaultSpec::new(faults::find("drop").unwrap(), Args::default()).unwrap(),
    }
}

fn partition(name: &str) -> Partition {
    Partition {
        name: name.to_owned(),
        shape: Shape::Between(vec![vec!["client".to_owned()], vec!["payment".to_owned()]]),
        deaf: Vec::new(),
        mode: Mode::Blackhole,
        enabled: true,
        ttl: Ttl::Unsaid,
        timetable: None,
    }
}

fn state() -> State {
    let state = State::default();
    let edge = Edge::new("payment", "127.0.0.1:0", "127.0.0.1:1");
    state
        .apply(vec![Change::PutEdge(edge)], Source::File)
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
fn a_change_is_worked_out_on_what_stands_and_refused_whole() {
    let state = state();
    state
        .apply(vec![Change::AddRule(rule("a"))], Source::Api)
        .unwrap();
    let before = state.generation();
    let changed = state.change(Source::Api, |draft| {
        assert_eq!(draft.before(), before);
        draft.apply(Change::AddRule(rule("b")))?;
        let names: Vec<_> = draft.rules().map(|d| d.definition.name.clone()).collect();
        assert_eq!(names, ["a", "b"], "what was done is seen by what follows");
        draft.apply(Change::AddRule(rule("a")))
    });
    assert_eq!(changed, Err(Refused::Exists("rule", "a".to_owned())));
    assert_eq!((state.generation(), enabled(&state).len()), (before, 1));
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
        async move { state.keep_time().await }
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

/// The events so far, each as `generation via: what it touched`.
fn told(state: &State) -> Vec<String> {
    let told = state.subscribe().past.into_iter().map(|event| {
        let touched: Vec<_> = event.touched.iter().map(Touched::to_string).collect();
        format!("{} {}: {}", event.generation, event.who, touched.join(", "))
    });
    told.collect()
}

fn client(controller: &str) -> By {
    By {
        source: Source::Api,
        who: Who::Client {
            peer: ([127, 0, 0, 1], 7).into(),
            controller: (!controller.is_empty()).then(|| controller.into()),
        },
    }
}

#[test]
fn every_change_is_told_with_who_made_it() {
    let state = state();
    let both = vec![
        Change::AddRule(rule("a")),
        Change::AddPartition(partition("split")),
    ];
    state.apply(both, Source::File).unwrap();
    let mut other = rule("a");
    other.probability = 0.5;
    let replaced = vec![Change::PutRule(other), Change::AddRule(rule("b"))];
    state.apply(replaced, client("drill\n7")).unwrap();
    state.apply(vec![Change::Heal], client("")).unwrap();
    let on = Change::SwitchRule("b".to_owned(), true, Ttl::Unsaid);
    let off = Change::RemoveRule("a".to_owned());
    state.apply(vec![on, off], client("")).unwrap();
    state.apply(vec![Change::Heal], client("")).unwrap();
    state.apply(vec![Change::Heal], client("")).unwrap();
    insta::assert_snapshot!(told(&state).join("\n"), @r"
    1 file: proxy payment made
    2 file: partition split made, rule a made
    3 api 127.0.0.1:7 (drill\n7): rule a replaced, rule b made
    4 api 127.0.0.1:7: partition split disabled, rule a disabled, rule b disabled
    5 api 127.0.0.1:7: rule b enabled, rule a deleted
    6 api 127.0.0.1:7: rule b disabled
    7 api 127.0.0.1:7: 
    ");
}

#[tokio::test]
async fn who_subscribes_misses_nothing_and_the_past_is_bounded() {
    let state = state();
    for _ in 0..REMEMBERED {
        state.apply(vec![Change::Heal], Source::Api).unwrap();
    }
    let mut subscription = state.subscribe();
    assert_eq!(subscription.past.len(), REMEMBERED);
    assert_eq!(subscription.past[0].generation, 2, "the first is forgotten");
    let next = state.apply(vec![Change::Heal], Source::Api).unwrap();
    let event = subscription.to_come.recv().await.unwrap();
    assert_eq!(event.generation, next);
    assert_eq!(subscription.past.last().unwrap().generation, next - 1);
}

/// Keeps time for a state until the test ends.
fn keeping(state: &Arc<State>) -> tokio::task::JoinHandle<()> {
    let state = Arc::clone(state);
    tokio::spawn(async move { state.keep_time().await })
}

fn acting(state: &State) -> (usize, usize) {
    let set = state.snapshot().rules_of("payment", Protocol::Tcp);
    (set.rules.len(), set.cuts.len())
}

#[tokio::test(start_paused = true)]
async fn a_schedule_lets_it_act_and_wait_by_turns_and_counts_go_on() {
    let state = Arc::new(state());
    let _keeping = keeping(&state);
    let seconds = Duration::from_secs;
    let timetable = Timetable {
        at: Start::After(seconds(10)),
        lasts: Some(seconds(5)),
        every: Some(seconds(20)),
        ramp_up: Duration::ZERO,
        ramp_down: Duration::ZERO,
    };
    let mut limited = rule("a");
    limited.limit = Some(1);
    limited.timetable = Some(timetable.clone());
    let mut split = partition("split");
    split.timetable = Some(timetable);
    let both = vec![Change::AddRule(limited), Change::AddPartition(split)];
    state.apply(both, Source::File).unwrap();
    let to = async |at: u64, now: tokio::time::Instant| {
        tokio::time::sleep_until(now + seconds(at) + Duration::from_millis(2)).await;
    };
    let t0 = clock::now();
    assert_eq!(acting(&state), (0, 0), "it waits");
    assert!(!state.rules().1[0].active && state.rules().1[0].definition.enabled);
    to(10, t0).await;
    assert_eq!(acting(&state), (1, 1));
    let set = state.snapshot().rules_of("payment", Protocol::Tcp);
    set.rules[0].select(42, 1).unwrap().0.inject();
    to(15, t0).await;
    assert_eq!(acting(&state), (0, 0));
    assert!(set.rules[0].is_lifted() && set.cuts[0].partition.is_healed());
    to(30, t0).await;
    assert_eq!(acting(&state), (1, 1));
    let again = state.snapshot().rules_of("payment", Protocol::Tcp);
    assert!(
        again.rules[0].select(42, 2).is_none(),
        "its limit is used up"
    );
    state.apply(vec![Change::Heal], Source::Api).unwrap();
    to(60, t0).await;
    assert_eq!(acting(&state), (0, 0), "healed, it has no more turns");
    insta::assert_snapshot!(told(&state)[2..].join("\n"), @r"
    3 schedule: partition split began, rule a began
    4 schedule: partition split paused, rule a paused
    5 schedule: partition split began, rule a began
    6 process: partition split disabled, rule a disabled
    ");
}

#[tokio::test(start_paused = true)]
async fn what_a_silent_controller_set_is_lifted_and_nothing_else() {
    let state = Arc::new(State::new(7, Some(Duration::from_secs(10))));
    let _keeping = keeping(&state);
    let add = |name: &str| {
        let mut rule = rule(name);
        rule.ttl = Ttl::Forever;
        vec![Change::AddRule(rule)]
    };
    state.apply(add("its"), client("drill")).unwrap();
    state.apply(add("others"), client("other")).unwrap();
    state.apply(add("nobodys"), client("")).unwrap();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(
            state.heartbeat(&"drill".into()),
            Some(Duration::from_secs(10))
        );
    }
    let on = || {
        let all = enabled(&state).into_iter().filter(|(_, on)| *on);
        all.map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(
        on(),
        ["its", "nobodys"],
        "the other was silent all the time"
    );
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(on(), ["its", "nobodys"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(on(), ["nobodys"]);
    assert_eq!(
        told(&state).last().unwrap(),
        "5 heartbeat of drill missed: rule its disabled"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_restored_has_what_is_left_of_its_time() {
    let state = Arc::new(state());
    let _keeping = keeping(&state);
    let now = Timestamp::now();
    let restored = |name: &str, expires: Option<Duration>| {
        Change::RestoreRule(Restored {
            definition: rule(name),
            since: Timestamp(now.0 - 60_000_000),
            expires: expires.map(|d| now.plus(d)),
        })
    };
    let mut over = restored("over", None);
    if let Change::RestoreRule(rule) = &mut over {
        rule.expires = Some(Timestamp(now.0 - 1));
    }
    let soon = restored("soon", Some(Duration::from_secs(5)));
    let all = vec![restored("forever", None), soon, over];
    state.apply(all, Source::Api).unwrap();
    let on = |name: &str| enabled(&state).contains(&(name.to_owned(), true));
    assert!(on("forever") && on("soon") && !on("over"));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(on("forever") && !on("soon"));
}

#[test]
fn a_file_that_says_the_same_again_leaves_what_was_switched() {
    let state = state();
    let put = |rule| vec![Change::PutRule(rule)];
    state.apply(put(rule("a")), Source::File).unwrap();
    state.apply(vec![Change::Heal], Source::Api).unwrap();
    state.apply(put(rule("a")), Source::File).unwrap();
    assert_eq!(enabled(&state), [("a".to_owned(), false)]);
    let mut other = rule("a");
    other.skip = 1;
    state.apply(put(other), Source::File).unwrap();
    assert_eq!(
        enabled(&state),
        [("a".to_owned(), true)],
        "the file has spoken anew"
    );
}
