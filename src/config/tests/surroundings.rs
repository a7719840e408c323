//! What the environment and the command line say besides a file.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;

use super::super::{Config, Given, Problems, Text};
use crate::rules::Protocol;

fn lookup(name: &str) -> Option<OsString> {
    let value = match name {
        "LISTEN" => "127.0.0.1:7001",
        "HOST" => "bank",
        "NUMBER" => "7",
        "TRUE" => "true",
        "TIME" => "250ms",
        "EMPTY" => "",
        "NASTY" => "x\nrules: [{ fault: drop }]\n# \"'{[&*!|>",
        _ => return None,
    };
    Some(value.into())
}

fn read(text: &str, given: &Given) -> Result<Config, Problems> {
    let text = Text {
        text,
        file: (!text.is_empty()).then_some("f.yaml"),
        folder: Path::new(""),
    };
    text.parse(given, &lookup)
}

fn file(text: &str) -> Result<Config, Problems> {
    read(text, &Given::default())
}

fn flags(flags: &[&str]) -> Given {
    Given {
        proxies: flags.iter().map(|&flag| flag.to_owned()).collect(),
        ..Given::default()
    }
}

#[test]
fn a_variable_is_what_is_asked_for() {
    let config = file("\
evidence: { capacity: \"${NUMBER}0\", redact: [\"x-${HOST}\"] }
limits:
  drain: ${TIME}
control: { watch: \"${WATCH:-false}\" }
proxies:
  - name: p${NUMBER}
    from: ${NUMBER}
    listen: ${LISTEN}
    upstream: ${HOST}:80${NUMBER}
    protocol: ${PROTOCOL:-http}
    max_connections: ${NUMBER}
    enabled: ${TRUE}
rules:
  - name: r
    probability: ${P:-0.25}
    limit: ${NUMBER}
    match: { path: { regex: \"^/${HOST}$\" }, query: { a: \"$${HOST}\" }, headers: { x-tenant: \"${NUMBER}\" } }
    fault: { abort: { status: \"${STATUS:-503}\", body: \"${NASTY}\" } }
")
    .unwrap();
    assert_eq!(config.evidence.capacity, 70);
    assert_eq!(config.evidence.redact, ["x-bank"]);
    assert_eq!(config.limits.drain, Duration::from_millis(250));
    assert!(!config.control.watch);
    let edge = &config.proxies[0];
    assert_eq!((edge.name.as_str(), edge.from.as_str()), ("p7", "7"));
    assert_eq!(edge.listen, "127.0.0.1:7001");
    assert_eq!(edge.upstream, "bank:807");
    assert_eq!(edge.protocol, Protocol::Http);
    assert_eq!((edge.max_connections, edge.enabled), (7, true));
    // The value that looks like YAML is one text, and the only rule is the file's own.
    assert_eq!(config.rules.len(), 1);
    assert_eq!(config.rules[0].probability, 0.25);
    let json = super::super::rule_to_json(&config.rules[0]);
    let nasty = lookup("NASTY").unwrap().into_string().unwrap();
    assert_eq!(json["fault"]["abort"]["body"], nasty);
    assert_eq!(json["match"]["path"]["regex"], "^/bank$");
    assert_eq!(json["match"]["query"]["a"], "${HOST}");
    assert_eq!(json["match"]["headers"]["x-tenant"], "7");
}

#[test]
fn what_a_variable_holds_is_judged_where_it_stands() {
    let problems = file(
        "\
evidence:
  capacity: ${HOST}
limits: { linger: \"${NUMBER}\" }
proxies:
  - name: ${NASTY}
    listen: ${NOT_SET}
    upstream: ${EMPTY}
  - { name: a, listen: \"${LISTEN}\", upstream: \"${HOST\" }
  - { name: \"${UNSET:-b}\", listen: \"${LISTEN}\", upstream: \"${HOST-x}:1\" }
rules:
  - proxies: [b, \"${ALSO_NOT_SET}\"]
    name: slow
    fault: { delay: { latency: \"${HOST}\" } }
# ${IN_A_COMMENT}
",
    )
    .unwrap_err();
    assert_snapshot!(problems, @r#"
    f.yaml:2:13: evidence.capacity: expected a whole number from 1 to 10000000, found `bank`
    f.yaml:3:19: limits.linger: expected a duration such as `150ms`, `2s` or `1m30s`, found `7`
    f.yaml:5:11: proxies[0].name: expected a name: 1 to 64 letters, digits, `_`, `.` or `-`, found `x\nrules: [{ fault: drop }]\n# "'{[&*!|>`
    f.yaml:6:13: proxies[0].listen: the variable `NOT_SET` is not set
      hint: set it, or give it a default: `${NOT_SET:-default}`
    f.yaml:7:15: proxies[0].upstream: expected an address such as `127.0.0.1:8001` or `payment:8001`, found an empty text
      hint: the port is missing
    f.yaml:8:47: proxies[1].upstream: `${` begins a variable, and no `}` ends it
      hint: `$${` is a `${` that stands for itself
    f.yaml:9:36: proxies[2].listen: this address is taken by proxies[1].listen (line 8)
      hint: port 0 is any free one
    f.yaml:9:59: proxies[2].upstream: expected the name of a variable, found `HOST-x`
      hint: `${HOST}`, or `${HOST:-default}`, is all that is understood
    f.yaml:11:18: rules[0].proxies[1]: the variable `ALSO_NOT_SET` is not set
      hint: set it, or give it a default: `${ALSO_NOT_SET:-default}`
    f.yaml:13:32: rules[0].fault.delay.latency: expected a duration such as `150ms`, `2s` or `1m30s`, found `bank`
    "#);
}

#[test]
fn few_characters_do_not_become_many_gigabytes() {
    let long = |_: &str| Some(OsString::from("x".repeat(100_000)));
    let mut text = "evidence:\n  redact:\n".to_owned();
    for _ in 0..900 {
        writeln!(text, "    - ${{X}}").unwrap();
    }
    let text = Text {
        text: &text,
        file: Some("f.yaml"),
        folder: Path::new(""),
    };
    let problems = text.parse(&Given::default(), &long).unwrap_err();
    let said = problems.list.iter().map(|p| p.message.as_str());
    let said: Vec<_> = said.collect();
    assert!(
        said.contains(&"with variables longer than 4 MiB"),
        "{said:?}"
    );
}

#[test]
fn proxies_of_the_command_line() {
    let given = flags(&[
        "payment=0.0.0.0:7001->payment:8080",
        "db=[::]:5432->[fd00::1]:5432?from=orders&to=database&connect_timeout=250ms",
        "web=127.0.0.1:0->web:80?protocol=http&max_connections=7&enabled=false&",
    ]);
    let config = read("", &given).unwrap();
    let ends = config.proxies.iter().map(|e| {
        let word = e.protocol.as_str();
        format!(
            "{} {}>{} {} {} {word}",
            e.name, e.from, e.to, e.listen, e.upstream
        )
    });
    assert_snapshot!(ends.collect::<Vec<_>>().join("\n"), @r#"
    payment client>payment 0.0.0.0:7001 payment:8080 tcp
    db orders>database [::]:5432 [fd00::1]:5432 tcp
    web client>web 127.0.0.1:0 web:80 http
    "#);
    assert_eq!(
        config.proxies[1].connect_timeout,
        Duration::from_millis(250)
    );
    assert_eq!(config.proxies[2].max_connections, 7);
    assert!(!config.proxies[2].enabled);
}

#[test]
fn rules_of_the_file_may_name_proxies_of_the_command_line() {
    let config = read(
        "\
proxies: [{ name: a, listen: 127.0.0.1:1, upstream: a:1 }]
rules: [{ name: slow, proxies: [a, b], fault: { delay: { latency: 1s } } }]
partitions: [{ name: cut, between: [[client], [b]] }]
",
        &flags(&["b=127.0.0.1:2->b:1"]),
    );
    let config = config.unwrap();
    let names: Vec<_> = config.proxies.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    // Of one that can't be read it is known that there is one.
    let given = flags(&["b=2->b:1"]);
    let problems = read("rules: [{ proxies: [b], fault: { drop: {} } }]", &given).unwrap_err();
    assert!(!problems.to_string().contains("no proxy"), "{problems}");
}

#[test]
fn all_that_is_wrong_with_the_command_line() {
    let given = flags(&[
        "payment",
        "payment=7001->payment:8080",
        "slow=127.0.0.1:7002->slow:1?protocol=htp&form=x",
        "one=127.0.0.1:7003->a:1",
        "one=127.0.0.1:7004->a:1",
        "two=127.0.0.1:7003->a:1",
        "me=127.0.0.1:7009->127.0.0.1:7009",
        "http=127.0.0.1:7010->http://a:1/",
        "nasty\u{1b}[31m=127.0.0.1:7011->a:1",
        "control=127.0.0.1:8474->a:1",
    ]);
    let problems = read("", &given).unwrap_err();
    assert_snapshot!(problems, @r#"
    --proxy: expected `NAME=LISTEN->UPSTREAM`, such as `payment=0.0.0.0:7001->payment:8080`, found `payment`
      hint: in a shell it stands between quotes
    --proxy payment.listen: expected an address such as `127.0.0.1:7001`, found `7001`
      hint: did you mean `127.0.0.1:7001`?
    --proxy slow.protocol: expected one of `tcp`, `http`, `auto`, found `htp`
      hint: did you mean `http`?
    --proxy slow.form: unknown key `form`
      hint: did you mean `from`?
    --proxy one: the name `one` stands here twice
    --proxy two.listen: this address is taken by `--proxy one`, `127.0.0.1:7003`
    --proxy me.upstream: this is the proxy's own address: it would dial itself for ever
    --proxy http.upstream: expected an address such as `127.0.0.1:8001` or `payment:8001`, found `http://a:1/`
      hint: leave `http://` and any path out: `a:1`
    --proxy nasty\u{1b}[31m.name: expected a name: 1 to 64 letters, digits, `_`, `.` or `-`, found `nasty\u{1b}[31m`
    --proxy control.listen: this address is taken by `control.listen`, `127.0.0.1:8474`
    "#);
}

#[test]
fn the_command_line_and_the_file_clash() {
    let text = "\
control: { listen: 127.0.0.1:1 }
proxies:
  - { name: a, listen: 127.0.0.1:2, upstream: a:1 }
  - { name: b, listen: 127.0.0.1:3, upstream: a:1 }
  - { name: c, listen: 127.0.0.1:5, upstream: a:1 }
";
    let given = Given {
        control: Some("0.0.0.0:5".to_owned()),
        metrics: Some("9090".to_owned()),
        drain: Some("soon".to_owned()),
        ..flags(&["a=127.0.0.1:4->a:1", "d=127.0.0.1:3->a:1"])
    };
    let problems = read(text, &given).unwrap_err();
    assert_snapshot!(problems, @r#"
    f.yaml:3:13: proxies[0].name: the name `a` is taken by `--proxy a`
    f.yaml:4:24: proxies[1].listen: this address is taken by `--proxy d`, `127.0.0.1:3`
    f.yaml:5:24: proxies[2].listen: this address is taken by `control.listen`, `0.0.0.0:5`
    f.yaml: --control: listening beyond loopback needs a token
      hint: set `--token-file`; or `--without-token`, and whoever reaches it can break things
    f.yaml: --metrics: expected an address such as `127.0.0.1:7001`, found `9090`
      hint: did you mean `127.0.0.1:9090`?
    f.yaml: --drain: expected a duration such as `150ms`, `2s` or `1m30s`, found `soon`
    "#);
}

#[test]
fn the_command_line_beats_the_file() {
    let text = "\
control: { listen: 0.0.0.0:1 }
metrics: { listen: 127.0.0.1:2 }
limits: { drain: 3s }
";
    let said = |problems: Problems| problems.to_string();
    let refused = file(text).map_err(said).unwrap_err();
    assert!(
        refused.starts_with("f.yaml:1:20: control.listen: listening"),
        "{refused}"
    );
    let given = Given {
        control: Some("127.0.0.1:3".to_owned()),
        metrics: Some("0.0.0.0:4".to_owned()),
        drain: Some("1m".to_owned()),
        ..Given::default()
    };
    let config = read(text, &given).unwrap();
    assert_eq!(config.control.listen, "127.0.0.1:3");
    assert_eq!(config.metrics.unwrap().listen, "0.0.0.0:4");
    assert_eq!(config.limits.drain, Duration::from_secs(60));
    // A token, or leave to go without, is as good from here.
    let token = Given {
        token_file: Some("token".into()),
        ..Given::default()
    };
    assert!(read(text, &token).is_ok());
    let without = Given {
        without_token: true,
        ..Given::default()
    };
    assert!(read(text, &without).unwrap().control.insecure);
}

#[test]
fn an_upstream_may_be_wherever_each_client_was_going() {
    let config = read("", &flags(&["out=[::]:15001->original?protocol=auto"])).unwrap();
    assert!(config.proxies[0].is_transparent());
    let again = super::super::edge_from_json(&super::super::edge_to_json(&config.proxies[0]));
    assert_eq!(again.as_ref(), Ok(&config.proxies[0]));
    // Whose certificate that will be can't be told from its address.
    let text =
        "proxies: [{ name: a, listen: 127.0.0.1:1, upstream: original, tls: { originate: true } }]";
    let problems = file(text).unwrap_err();
    assert_eq!(problems.list.len(), 1, "{problems}");
    assert_eq!(problems.list[0].path, "proxies[0].tls.originate");
    let named = text.replace("true }", "{ server_name: a.example, verify: false } }");
    assert!(file(&named).is_ok());
}
