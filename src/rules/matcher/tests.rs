use proptest::prelude::*;

use super::*;
use crate::operation::{Body, Response};

fn facts<'a>(request: Option<Request<'a>>) -> Facts<'a> {
    Facts {
        client: [127, 0, 0, 1].into(),
        connection: 1,
        bytes: 0,
        age: Duration::ZERO,
        sni: Sni::Unknown,
        http: request,
    }
}

#[test]
fn conditions_are_joined_and_repeats_count_once() {
    let headers = [
        httparse::Header {
            name: "X-Tenant",
            value: b"main",
        },
        httparse::Header {
            name: "x-tenant",
            value: b"canary-7",
        },
    ];
    let request = Request {
        authority: None,
        method: "POST",
        path: "/authorize/1",
        query: Some("a=1&b=2&a=3&flag"),
        headers: &headers,
        http2: false,
    };
    let pair = |n: &str, v: &str| vec![(n.to_owned(), Glob(v.to_owned()).into())];
    let all = Matcher {
        clients: vec![Subnet::parse("127.0.0.0/8").unwrap()],
        connections: vec![Ordinals::parse("1").unwrap()],
        methods: vec!["PUT".to_owned(), "POST".to_owned()],
        path: Some(PathGlob("/authorize/*".to_owned()).into()),
        query: pair("a", "3"),
        headers: pair("X-TENANT", "canary-*"),
        ..Matcher::default()
    };
    assert_eq!(all.meets(&facts(Some(request))), Meets::Now);
    for wrong in [
        Matcher {
            clients: vec![Subnet::parse("10.0.0.0/8").unwrap()],
            ..all.clone()
        },
        Matcher {
            connections: vec![Ordinals::parse("2-").unwrap()],
            ..all.clone()
        },
        Matcher {
            methods: vec!["post".to_owned()],
            ..all.clone()
        },
        Matcher {
            path: Some(PathGlob("/authorize".to_owned()).into()),
            ..all.clone()
        },
        Matcher {
            query: pair("a", "2"),
            ..all.clone()
        },
        Matcher {
            headers: pair("x-tenant", "canary"),
            ..all.clone()
        },
    ] {
        assert_eq!(
            wrong.meets(&facts(Some(request))),
            Meets::Never,
            "{wrong:?}"
        );
    }
    assert_eq!(
        all.meets(&facts(None)),
        Meets::Never,
        "an HTTP match on plain TCP is false"
    );
    assert_eq!(Matcher::default().meets(&facts(None)), Meets::Now);
}

#[test]
fn what_has_not_come_is_awaited_and_what_can_not_come_is_not() {
    let second = Duration::from_secs(1);
    let matcher = Matcher {
        bytes: Some(100),
        age: Some(second),
        sni: Some(HostGlob::new("*.example.com")),
        ..Matcher::default()
    };
    let meets = |bytes, age, sni| {
        matcher.meets(&Facts {
            bytes,
            age,
            sni,
            ..facts(None)
        })
    };
    let later = |bytes, age, sni| Awaited {
        bytes,
        age,
        sni,
        ..Awaited::default()
    };
    let awaited = |meets: Meets| match meets {
        Meets::Later(rest) => rest.awaited(),
        known => panic!("{known:?}"),
    };
    let named = Sni::Named("pay.example.com");
    assert_eq!(
        awaited(meets(99, second / 2, Sni::Unknown)),
        later(Some(100), Some(second), true)
    );
    assert_eq!(
        awaited(meets(100, second / 2, named)),
        later(None, Some(second), false)
    );
    assert_eq!(
        awaited(meets(99, second, named)),
        later(Some(100), None, false)
    );
    assert_eq!(meets(100, second, named), Meets::Now);
    assert_eq!(meets(0, second, Sni::Named("example.com")), Meets::Never);
    assert_eq!(meets(0, second, Sni::Absent), Meets::Never);
    assert_eq!(matcher.late().collect::<Vec<_>>(), ["bytes", "age", "sni"]);

    let mut joined = Awaited {
        bytes: Some(100),
        age: None,
        sni: false,
        body: Some(10),
        response: false,
    };
    joined.join(Awaited {
        bytes: Some(50),
        age: Some(second),
        sni: true,
        body: Some(20),
        response: true,
    });
    let sooner = Awaited {
        bytes: Some(50),
        age: Some(second),
        sni: true,
        body: Some(20),
        response: true,
    };
    assert_eq!(joined, sooner);
}

fn header<'a>(name: &'a str, value: &'a str) -> httparse::Header<'a> {
    httparse::Header {
        name,
        value: value.as_bytes(),
    }
}

#[test]
fn what_a_request_says_of_itself() {
    let headers = [
        header("Host", "Pay.shop.example:8080"),
        header("cookie", "tenant=main; session=a=b"),
        header("Cookie", "tenant=canary"),
        header("content-type", "application/grpc"),
        header("x-firedrill-fault", "slow,  lost"),
    ];
    let request = Request {
        authority: None,
        method: "POST",
        path: "/shop.Payment/Authorize",
        query: None,
        headers: &headers,
        http2: false,
    };
    let glob = |text: &str| Pattern::Glob(Glob(text.to_owned()));
    let regex = |text: &str| Pattern::Regex(Regex::new(text).unwrap());
    let any = Matcher::default;
    let host = |text: &str| Matcher {
        host: Some(HostGlob::new(text)),
        ..any()
    };
    let path = |text: &str| Matcher {
        path: Some(PathPattern::Regex(Regex::new(text).unwrap())),
        ..any()
    };
    let cookie = |name: &str, pattern| Matcher {
        cookies: vec![(name.to_owned(), pattern)],
        ..any()
    };
    let has = |name: &str, pattern| Matcher {
        headers: vec![(name.to_owned(), pattern)],
        ..any()
    };
    let grpc = |service: &str| Matcher {
        grpc: Some(GrpcMatch {
            service: Some(Glob(service.to_owned())),
            method: None,
        }),
        ..any()
    };
    let asked = |name: &str| Matcher {
        asked: Some(name.to_owned()),
        ..any()
    };
    for (matcher, expected) in [
        (host("*.SHOP.example"), true),
        (host("shop.example"), false),
        (path("Auth[a-z]+$"), true),
        (path("^Auth"), false),
        (cookie("tenant", glob("canary")), true),
        (cookie("tenant", glob("main")), true),
        (cookie("session", glob("a=*")), true),
        (cookie("Tenant", glob("*")), false),
        (cookie("tenant", regex("^can")), true),
        (has("CONTENT-type", regex("grpc$")), true),
        (has("content-type", regex("^grpc")), false),
        (has("x-absent", glob("*")), false),
        (grpc("shop.*"), true),
        (grpc("Payment"), false),
        (asked("lost"), true),
        (asked("slow"), true),
        (asked("los"), false),
    ] {
        let not = Matcher {
            not: Some(Box::new(matcher.clone())),
            ..any()
        };
        for (matcher, expected) in [(matcher, expected), (not, !expected)] {
            let meets = matcher.meets(&facts(Some(request)));
            assert_eq!(meets, Meets::known(expected), "{matcher:?}");
            assert_eq!(matcher.meets(&facts(None)), Meets::Never, "{matcher:?}");
            assert!(matcher.can_hold(Ground::Http) && !matcher.can_hold(Ground::Stream));
        }
    }
}

/// Everything that may be known of one operation.
#[derive(Debug, Clone)]
struct World {
    http: bool,
    method: &'static str,
    bytes: u64,
    sni: Option<&'static str>,
    body: Option<&'static str>,
    status: u16,
}

fn world() -> impl Strategy<Value = World> {
    (
        any::<bool>(),
        prop::sample::select(vec!["GET", "POST"]),
        0u64..4,
        prop::sample::select(vec![None, Some("a"), Some("b")]),
        prop::sample::select(vec![None, Some("x"), Some("y")]),
        prop::sample::select(vec![200u16, 500]),
    )
        .prop_map(|(http, method, bytes, sni, body, status)| World {
            http,
            method,
            bytes,
            sni,
            body,
            status,
        })
}

fn leaf() -> impl Strategy<Value = Matcher> {
    prop_oneof![
        Just(Matcher::default()),
        prop::sample::select(vec!["GET", "POST"]).prop_map(|method| Matcher {
            methods: vec![method.to_owned()],
            ..Matcher::default()
        }),
        (1u64..4).prop_map(|bytes| Matcher {
            bytes: Some(bytes),
            ..Matcher::default()
        }),
        Just(Matcher {
            connections: vec![Ordinals::parse("1").unwrap()],
            ..Matcher::default()
        }),
        Just(Matcher {
            clients: vec![Subnet::parse("10.0.0.0/8").unwrap()],
            ..Matcher::default()
        }),
        prop::sample::select(vec!["a", "b"]).prop_map(|host| Matcher {
            sni: Some(HostGlob::new(host)),
            ..Matcher::default()
        }),
        prop::sample::select(vec!["x", "y"]).prop_map(|text| Matcher {
            body: Some(Arc::new(BodyMatch {
                contains: Some(text.to_owned()),
                ..BodyMatch::default()
            })),
            ..Matcher::default()
        }),
        prop::sample::select(vec!["2xx", "5xx"]).prop_map(|span| Matcher {
            response: Some(Arc::new(ResponseMatch {
                statuses: vec![Statuses::parse(span).unwrap()],
                headers: Vec::new(),
            })),
            ..Matcher::default()
        }),
    ]
}

fn matcher() -> impl Strategy<Value = Matcher> {
    leaf().prop_recursive(4, 24, 3, |inner| {
        let some = || prop::collection::vec(inner.clone(), 0..3);
        (leaf(), some(), some(), prop::option::of(inner.clone())).prop_map(
            |(own, all, any, not)| Matcher {
                all,
                any,
                not: not.map(Box::new),
                ..own
            },
        )
    })
}

/// The definition, written the slow and obvious way, of everything known: `to` says whether the
/// conditions are to hold or not to; what there is not holds neither way.
fn obvious(m: &Matcher, world: &World, to: bool) -> bool {
    let is = |met: bool| met == to;
    let mut each = Vec::new();
    for client in &m.clients {
        each.push(is(client.contains([127, 0, 0, 1].into())));
    }
    for span in &m.connections {
        each.push(is(span.contains(1)));
    }
    for method in &m.methods {
        each.push(world.http && is(method == world.method));
    }
    if let Some(bytes) = &m.bytes {
        each.push(is(world.bytes >= *bytes));
    }
    if let Some(sni) = &m.sni {
        each.push(!world.http && is(world.sni.is_some_and(|host| sni.matches(host))));
    }
    if let Some(body) = &m.body {
        let wanted = body.contains.as_deref().unwrap();
        each.push(world.http && world.body.is_some_and(|body| is(body == wanted)));
    }
    if let Some(response) = &m.response {
        each.push(world.http && is(response.statuses[0].contains(world.status)));
    }
    for inner in &m.all {
        each.push(obvious(inner, world, to));
    }
    if !m.any.is_empty() {
        let mut any = m.any.iter().map(|inner| obvious(inner, world, to));
        each.push(if to {
            any.any(|holds| holds)
        } else {
            any.all(|holds| holds)
        });
    }
    if let Some(inner) = &m.not {
        each.push(obvious(inner, world, !to));
    }
    if to {
        each.iter().all(|holds| *holds)
    } else {
        each.iter().any(|holds| *holds)
    }
}

proptest! {
    /// However much of it is known at first, in the end it is judged as defined, and what was
    /// judged before does not change.
    #[test]
    fn matchers_mean_what_is_defined(matcher in matcher(), world in world()) {
        let request = Request {
            authority: None,
            method: world.method,
            path: "/",
            query: None,
            headers: &[],
            http2: false,
        };
        let all = Facts {
            bytes: world.bytes,
            sni: if world.http { Sni::Absent } else { world.sni.map_or(Sni::Absent, Sni::Named) },
            ..facts(world.http.then_some(request))
        };
        let expected = Meets::known(obvious(&matcher, &world, true));
        if world.http {
            let body = world.body.map_or(Body::Long, |b| Body::whole(b.as_bytes()));
            let response = Response { status: world.status, headers: &[], length: None };
            let at_head = matcher.meets(&all);
            if let Meets::Later(rest) = &at_head {
                let awaited = rest.awaited();
                prop_assert!(awaited.body.is_some() || awaited.response);
                prop_assert_eq!(&rest.meets(&body, Some(&response)), &expected);
                let then = rest.meets(&body, None);
                if let Meets::Later(rest) = &then {
                    prop_assert_eq!(rest.awaited().body, None, "the body is known");
                    prop_assert_eq!(&rest.meets(&body, Some(&response)), &expected);
                } else {
                    prop_assert_eq!(then, expected.clone());
                }
            } else {
                prop_assert_eq!(&at_head, &expected);
            }
            prop_assert!(matcher.can_hold(Ground::Http) || expected == Meets::Never);
        } else {
            match matcher.meets(&all) {
                // Bytes go on to come.
                Meets::Later(rest) => {
                    prop_assert!(rest.awaited().bytes > Some(world.bytes));
                    prop_assert_eq!(&expected, &Meets::Never);
                }
                known => prop_assert_eq!(&known, &expected),
            }
            let before = Facts { sni: Sni::Unknown, ..all };
            match matcher.meets(&before) {
                Meets::Later(_) => {}
                known => prop_assert_eq!(&known, &expected, "before the host was known"),
            }
            prop_assert!(matcher.can_hold(Ground::Stream) || expected == Meets::Never);
            let accepted = Facts { bytes: 0, ..before };
            let now = matcher.meets(&accepted) == Meets::Now;
            prop_assert!(matcher.can_hold(Ground::Accepted) || !now);
        }
    }
}
