//! Every problem in one go, at its place, with the right word.

use insta::assert_snapshot;

use super::bad;

#[test]
fn a_file_with_many_mistakes() {
    let problems = bad("\
seeds: 42
control: { listen: 0.0.0.0:8474, hosts: [a b] }
metrics: { listen: 8474 }
evidence: { capacity: 0, redact: authorization }
limits: { held_per_connection: 1GiB, linger: soon }
proxies:
  - name: payment
    listen: 127.0.0.1:7001
    upstream: http://127.0.0.1:8001/pay
    protocol: https
  - name: orders
    listen: 0.0.0.0:7001
    upstream: 127.0.0.1:8002
    max_connections: 0
  - name: orders
    listen: 7002
rules:
  - name: lost payment
    proxies: [paymnet]
    probability: 30
    enabled: yes
    ttl: 30
    fault:
      response_loss: { than: hang }
  - name: slow
    fault:
      delay:
        latencyy: 5ms
        jitter: 5
        distribution: parreto
  - name: slow
    limit: 0
    direction: sideways
    fault: { dealy: { latency: 1s } }
  - fault: drop
partitions:
  - name: split
    between: [[checkout, payment]]
    deaf: []
    mode: blackhol
");
    assert_snapshot!(problems, @r#"
    f.yaml:1:1: seeds: unknown key `seeds`
      hint: did you mean `seed`?
    f.yaml:2:20: control.listen: listening beyond loopback needs a token
      hint: set `control.token_file`; or `control.insecure: true`, and whoever reaches it can break things
    f.yaml:2:42: control.hosts[0]: expected a host name without a port, such as `chaos.example`, found `a b`
    f.yaml:3:20: metrics.listen: expected an address such as `127.0.0.1:7001`, found the number 8474
      hint: did you mean `127.0.0.1:8474`?
    f.yaml:4:23: evidence.capacity: expected a whole number from 1 to 10000000, found the number 0
    f.yaml:4:34: evidence.redact: expected a list of headers, found `authorization`
      hint: write `[authorization]`
    f.yaml:5:32: limits.held_per_connection: one connection may hold 1GiB, more than all together: `held_total` is 512MiB
    f.yaml:5:46: limits.linger: expected a duration such as `150ms`, `2s` or `1m30s`, found `soon`
    f.yaml:9:15: proxies[0].upstream: expected an address such as `127.0.0.1:8001` or `payment:8001`, found `http://127.0.0.1:8001/pay`
      hint: leave `http://` and any path out: `127.0.0.1:8001`
    f.yaml:10:15: proxies[0].protocol: expected one of `tcp`, `http`, `auto`, found `https`
      hint: did you mean `http`?
    f.yaml:12:13: proxies[1].listen: this address is taken by proxies[0].listen (line 8)
      hint: port 0 is any free one
    f.yaml:14:22: proxies[1].max_connections: expected a whole number from 1 to 1000000, found the number 0
    f.yaml:15:5: proxies[2].upstream: missing; expected an address such as `127.0.0.1:8001` or `payment:8001`
    f.yaml:15:11: proxies[2].name: the name `orders` is taken by proxies[1].name (line 11)
    f.yaml:16:13: proxies[2].listen: expected an address such as `127.0.0.1:7001`, found the number 7002
      hint: did you mean `127.0.0.1:7002`?
    f.yaml:18:11: rules[0].name: expected a name: 1 to 129 letters, digits, `_`, `.`, `-` or `/`, found `lost payment`
    f.yaml:19:15: rules[0].proxies[0]: there is no proxy `paymnet`
      hint: did you mean `payment`?
    f.yaml:20:18: rules[0].probability: expected a number from 0 to 1, found the number 30
      hint: 30 % is written `0.3`
    f.yaml:21:14: rules[0].enabled: expected `true` or `false`, found `yes`
      hint: write `true`
    f.yaml:22:10: rules[0].ttl: expected a duration such as `150ms`, `2s` or `1m30s`, found the number 30
      hint: give it a unit: `30ms` or `30s`
    f.yaml:24:24: rules[0].fault.response_loss.than: unknown key `than`
      hint: did you mean `then`?
    f.yaml:28:9: rules[1].fault.delay.latencyy: unknown key `latencyy`
      hint: did you mean `latency`?
    f.yaml:29:17: rules[1].fault.delay.jitter: expected a duration such as `150ms`, `2s` or `1m30s`, found the number 5
      hint: give it a unit: `5ms` or `5s`
    f.yaml:30:23: rules[1].fault.delay.distribution: expected one of `uniform`, `normal`, `lognormal`, `pareto`, found `parreto`
      hint: did you mean `pareto`?
    f.yaml:31:11: rules[2].name: the name `slow` is taken by rules[1].name (line 25)
    f.yaml:32:12: rules[2].limit: expected a whole number of 1 or more, found the number 0
    f.yaml:33:16: rules[2].direction: expected one of `upstream`, `downstream`, found `sideways`
    f.yaml:34:14: rules[2].fault.dealy: unknown kind of fault `dealy`
      hint: did you mean `delay`?
    f.yaml:35:5: rules[3].name: missing; expected a name: 1 to 129 letters, digits, `_`, `.`, `-` or `/`
    f.yaml:35:12: rules[3].fault: expected one kind with its parameters, such as `{ delay: { latency: 150ms } }`, found `drop`
      hint: write `{ drop: {} }`
    f.yaml:38:14: partitions[0].between: a partition is between two groups or more
      hint: write groups of services such as `[[checkout], [payment, orders]]`
    f.yaml:39:11: partitions[0].deaf: names no service
      hint: leave `deaf` out where nobody is to hear the other side
    f.yaml:40:11: partitions[0].mode: expected one of `blackhole`, `refuse`, `reset`, found `blackhol`
      hint: did you mean `blackhole`?
    "#);
}

#[test]
fn what_rules_can_and_cannot_act_on() {
    let problems = bad("\
proxies:
  - { name: db, listen: 127.0.0.1:0, upstream: db:5432 }
  - { name: api, listen: 127.0.0.1:0, upstream: api:80, protocol: http }
rules:
  - name: http-only
    proxies: [db]
    fault: { abort: {} }
  - name: with-match
    proxies: [db]
    match: { path: /x }
    fault: { drop: {} }
  - name: no-direction
    direction: downstream
    fault: { drop: {} }
  - name: status-on-tcp
    proxies: [db]
    fault:
      response_loss:
        then: 503
  - name: last
    proxies: [db, api]
    fault: { duplicate: { answer: last } }
  - name: lognormal
    fault: { delay: { latency: 0, distribution: lognormal } }
  - name: two
    fault: { drop: {}, delay: { latency: 1s } }
  - name: none
    fault: {}
  - name: nobody
    proxies: []
    fault: { drop: {} }
  - name: twice
    proxies: [db, db]
    fault: { drop: {} }
  - name: matching
    proxies: [api]
    match: { method: post, path: x, query: [a], headers: { 'a b': 1, c: 1.5 } }
    fault: { abort: { headers: { content-length: 1 } } }
  - name: elsewhere
    match: { path: /a?b=1 }
    fault: { drop: { then: 503 } }
partitions:
  - name: unknown
    between: [[dbb], [client, api, client]]
    deaf: [apy, billing]
  - name: flat
    between: [db, api]
  - name: empty
    between: [[], [elsewhere]]
");
    assert_snapshot!(every_kind_named(&problems), @r#"
    f.yaml:7:14: rules[0].fault.abort: `abort` can't act on `db`: `protocol: tcp`
      hint: it can act on `api`
    f.yaml:10:12: rules[1].match: conditions on HTTP never hold here: this rule acts on `tcp` proxies only
      hint: set `protocol: http` on the proxy, or leave them out
    f.yaml:13:16: rules[2].direction: `drop` acts upstream only
      hint: leave `direction` out
    f.yaml:19:15: rules[3].fault.response_loss.then: a status needs `protocol: http`; on tcp: hang, close or reset
      hint: `db` has `protocol: tcp`
    f.yaml:22:35: rules[4].fault.duplicate.answer: `last` needs `protocol: http`; on tcp the copies' answers are discarded
      hint: `db` has `protocol: tcp`
    f.yaml:24:32: rules[5].fault.delay.latency: a lognormal delay spreads around `latency`, which must not be 0
    f.yaml:26:12: rules[6].fault: a rule has one kind of fault, found `drop`, `delay`
      hint: make a rule for each; several rules may act on the same proxy
    f.yaml:28:12: rules[7].fault: names no kind; expected one kind with its parameters, such as `{ delay: { latency: 150ms } }`
      hint: kinds: ALL OF THEM
    f.yaml:30:14: rules[8].proxies: names no proxy
      hint: leave `proxies` out to mean every proxy that the fault can act on
    f.yaml:33:19: rules[9].proxies[1]: `db` stands here already (line 33)
    f.yaml:37:22: rules[10].match.method: methods are compared as they are written: `post` is not `POST`
      hint: write `POST`
    f.yaml:37:34: rules[10].match.path: expected a path such as `/authorize/*`, beginning with `/` or `*`, found `x`
      hint: did you mean `/x`?
    f.yaml:37:44: rules[10].match.query: expected a map of parameters to patterns, found a list
    f.yaml:37:60: rules[10].match.headers["a b"]: `a b` is not a name that can stand here
    f.yaml:37:73: rules[10].match.headers.c: expected a text, found the number 1.5
      hint: write it in quotes: `"1.5"`
    f.yaml:38:32: rules[10].fault.abort.headers: `content-length` is set by the proxy itself
    f.yaml:40:20: rules[11].match.path: the query is matched apart, found `/a?b=1`
      hint: put its parameters under `match.query`
    f.yaml:41:28: rules[11].fault.drop.then: expected one of `hang`, `close`, `reset`, found the number 503
    f.yaml:44:16: partitions[0].between[0][0]: no proxy is from or to `dbb`
      hint: did you mean `db`?
    f.yaml:44:36: partitions[0].between[1][2]: `client` stands in partitions[0].between[1][0] already (line 44)
    f.yaml:45:12: partitions[0].deaf[0]: `apy` is in none of the groups of `between`
      hint: did you mean `api`?
    f.yaml:45:17: partitions[0].deaf[1]: `billing` is in none of the groups of `between`
      hint: who is deaf must be in a group
    f.yaml:47:14: partitions[1].between: expected groups of services such as `[[checkout], [payment, orders]]`, found a list of texts
      hint: a group is a list as well: `[[db], [api]]`
    f.yaml:49:15: partitions[2].between[0]: a group needs at least one service
    f.yaml:49:20: partitions[2].between[1][0]: no proxy is from or to `elsewhere`
      hint: there are: `api`, `client`, `db`
    "#);
}

#[test]
fn conditions_on_connections() {
    let problems = bad("\
proxies:
  - { name: db, listen: 127.0.0.1:0, upstream: db:5432 }
  - { name: api, listen: 127.0.0.1:0, upstream: api:80, protocol: http }
rules:
  - name: wrong
    match:
      client: [10.1.2.3/8, localhost, '10.0.0.1:80']
      connection: [0, 5-1, -5, x, 1.5]
      bytes: 0
      age: 5
      sni: https://pay.example.com/
    fault: { delay: { latency: 1s } }
  - name: empty
    match: { client: [], connection: [], bytes: lots, sni: '' }
    fault: { delay: { latency: 1s } }
  - name: sni-on-http
    proxies: [api]
    match: { sni: a.example }
    fault: { delay: { latency: 1s } }
  - name: sni-of-a-request
    match: { sni: a.example, path: /a }
    fault: { delay: { latency: 1s } }
  - name: too-late
    proxies: [db]
    match: { bytes: 1KiB, age: 1s, sni: a.example }
    fault: { refuse: {} }
  - name: too-late-on-one
    proxies: [db, api]
    match: { bytes: 1KiB }
    fault: { drop: {} }
  - name: too-late-or-never
    match: { sni: a.example }
    fault: { duplicate: {} }
  - name: in-time
    match: { client: ['::1', 10.0.0.0/8], connection: 1-3 }
    fault: { refuse: {} }
  - name: where-it-can
    match: { age: 1s }
    fault: { drop: {} }
  - name: requests
    proxies: [db, api]
    match: { bytes: 1KiB, path: /a }
    fault: { drop: {} }
");
    assert_snapshot!(problems, @r#"
    f.yaml:7:16: rules[0].match.client[0]: expected an address or a subnet such as `10.0.0.0/8`, found `10.1.2.3/8`
      hint: write `10.0.0.0/8`, or `10.1.2.3` for that one address
    f.yaml:7:28: rules[0].match.client[1]: expected an address or a subnet such as `10.0.0.0/8`, found `localhost`
    f.yaml:7:39: rules[0].match.client[2]: expected an address or a subnet such as `10.0.0.0/8`, found `10.0.0.1:80`
      hint: an address alone, such as `10.0.0.1`
    f.yaml:8:20: rules[0].match.connection[0]: expected a number such as `3`, or a range such as `1-5` or `10-`, found the number 0
      hint: they count from 1
    f.yaml:8:23: rules[0].match.connection[1]: expected a number such as `3`, or a range such as `1-5` or `10-`, found `5-1`
      hint: write `1-5`
    f.yaml:8:28: rules[0].match.connection[2]: expected a number such as `3`, or a range such as `1-5` or `10-`, found the number -5
      hint: write `1-5`
    f.yaml:8:32: rules[0].match.connection[3]: expected a number such as `3`, or a range such as `1-5` or `10-`, found `x`
    f.yaml:8:35: rules[0].match.connection[4]: expected a number such as `3`, or a range such as `1-5` or `10-`, found the number 1.5
    f.yaml:9:14: rules[0].match.bytes: expected a size of 1 byte or more, found the number 0
    f.yaml:10:12: rules[0].match.age: expected a duration such as `150ms`, `2s` or `1m30s`, found the number 5
      hint: give it a unit: `5ms` or `5s`
    f.yaml:11:12: rules[0].match.sni: expected a host name such as `*.example.com`, found `https://pay.example.com/`
      hint: the name alone: `pay.example.com`
    f.yaml:14:22: rules[1].match.client: expected an address or a subnet such as `10.0.0.0/8`, found a list
      hint: leave it out to mean any
    f.yaml:14:38: rules[1].match.connection: expected a number such as `3`, or a range such as `1-5` or `10-`, found a list
      hint: leave it out to mean any
    f.yaml:14:49: rules[1].match.bytes: expected a size such as `512`, `64KiB` or `1MB`, found `lots`
    f.yaml:14:60: rules[1].match.sni: expected a host name such as `*.example.com`, found an empty text
    f.yaml:18:19: rules[2].match.sni: never holds here: it is looked for on `tcp` proxies only
      hint: set `protocol: tcp` on the proxy, or match `host`
    f.yaml:21:19: rules[3].match.sni: never holds together with conditions on HTTP: it is looked for on `tcp` proxies only
      hint: make a rule for each
    f.yaml:25:21: rules[4].match.bytes: never holds in time on `db`: `refuse` acts when a connection is accepted, and `bytes` is known later
      hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    f.yaml:25:32: rules[4].match.age: never holds in time on `db`: `refuse` acts when a connection is accepted, and `age` is known later
      hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    f.yaml:25:41: rules[4].match.sni: never holds in time on `db`: `refuse` acts when a connection is accepted, and `sni` is known later
      hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    f.yaml:29:21: rules[5].match.bytes: never holds in time on `db`: `drop` acts when a connection is accepted, and `bytes` is known later
      hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    f.yaml:32:19: rules[6].match.sni: never holds in time on `db`: `duplicate` acts when a connection is accepted, and `sni` is known later
      hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    "#);
}

#[test]
fn conditions_on_requests() {
    let problems = bad("\
proxies:
  - { name: db, listen: 127.0.0.1:0, upstream: db:5432 }
  - { name: api, listen: 127.0.0.1:0, upstream: api:80, protocol: http }
rules:
  - name: wrong
    proxies: [api]
    match:
      host: shop.example:80
      path: /orders/{id
      query: { page: { regex: '[' } }
      headers: { x-a: { regexp: a } }
      cookies: { 'a b': 1 }
      grpc: { service: shop.Payment/Authorize, method: '' }
      body: { json: { '$.items[0].sku': 1, amount: 2, /a~b: 3 }, within: 2MiB }
      response: { status: [5XX, 600, ok, 599-500] }
      request: { nth: 0, per: caller }
      asked: yes
    fault: { delay: { latency: 1s } }
  - name: empty
    proxies: [api]
    match: { path: ^/v1, body: EUR, response: {}, request: 3, all: [], any: [{}], not: { body: {} } }
    fault: { delay: { latency: 1s } }
  - name: within
    proxies: [api]
    match: { path: '/a{}', not: { request: { nth: 1 } }, any: [{ asked: true }] }
    fault: { delay: { latency: 1s } }
  - name: deep
    match: { not: { not: { not: { not: { not: { not: { not: { not: { not: { method: GET } } } } } } } } } }
    fault: { delay: { latency: 1s } }
  - name: too-large
    match: { path: { regex: '(\\w{100}){100}' } }
    fault: { delay: { latency: 1s } }
  - name: before-the-answer
    match: { response: { status: 500 } }
    fault: { abort: {} }
  - name: before-the-answer-within
    match: { any: [{ response: { status: 500 } }, { method: GET }] }
    fault: { drop: {} }
  - name: upstream
    match: { response: { status: 500 } }
    direction: upstream
    fault: { delay: { latency: 1s } }
  - name: nowhere
    match: { any: [{ client: '::1' }, { all: [{ sni: a.example }, { path: /a }] }] }
    fault: { delay: { latency: 1s } }
  - name: plain
    proxies: [db]
    match: { any: [{ client: '::1' }, { path: /a }], not: { body: { contains: a } } }
    fault: { delay: { latency: 1s } }
  - name: requests
    proxies: [api]
    match: { any: [{ client: '::1' }, { not: { sni: a.example } }] }
    fault: { delay: { latency: 1s } }
  - name: late-within
    proxies: [db]
    match: { any: [{ client: '::1' }, { age: 1s }], not: { bytes: 1KiB } }
    fault: { refuse: {} }
");
    assert_snapshot!(problems, @r#"
    f.yaml:8:13: rules[0].match.host: expected a host name such as `*.example.com`, found `shop.example:80`
      hint: the name alone: `shop.example`
    f.yaml:9:13: rules[0].match.path: expected `{name}` for a part of a segment, found `/orders/{id`
      hint: for braces in a path itself use `{ regex: … }`
    f.yaml:10:31: rules[0].match.query.page.regex: `[` is no regular expression here: unclosed character class
    f.yaml:11:25: rules[0].match.headers.x-a.regexp: unknown key `regexp`
      hint: did you mean `regex`?
    f.yaml:12:18: rules[0].match.cookies["a b"]: `a b` is not a name that can stand here
    f.yaml:13:24: rules[0].match.grpc.service: expected a service such as `shop.Payment`, found `shop.Payment/Authorize`
      hint: `service` and `method` stand apart
    f.yaml:13:56: rules[0].match.grpc.method: expected a method such as `Authorize`, found an empty text
    f.yaml:14:23: rules[0].match.body.json["$.items[0].sku"]: `$.items[0].sku` is no JSON Pointer: one begins with `/`
      hint: did you mean `/items/0/sku`?
    f.yaml:14:44: rules[0].match.body.json.amount: `amount` is no JSON Pointer: one begins with `/`
      hint: did you mean `/amount`?
    f.yaml:14:55: rules[0].match.body.json["/a~b"]: `/a~b` is no JSON Pointer
      hint: in it `~` is written `~0`, and `/` in a name `~1`
    f.yaml:14:74: rules[0].match.body.within: expected a size of 1MiB at most, found `2MiB`
    f.yaml:15:28: rules[0].match.response.status[0]: expected a status such as `503`, `5xx` or `500-599`, found `5XX`
      hint: write `5xx`
    f.yaml:15:33: rules[0].match.response.status[1]: expected a status such as `503`, `5xx` or `500-599`, found the number 600
      hint: answers have statuses from 200 to 599
    f.yaml:15:38: rules[0].match.response.status[2]: expected a status such as `503`, `5xx` or `500-599`, found `ok`
    f.yaml:15:42: rules[0].match.response.status[3]: expected a status such as `503`, `5xx` or `500-599`, found `599-500`
      hint: write `500-599`
    f.yaml:16:23: rules[0].match.request.nth: expected a number such as `3`, or a range such as `1-5` or `10-`, found the number 0
      hint: they count from 1
    f.yaml:16:31: rules[0].match.request.per: expected one of `proxy`, `connection`, `client`, `identity`, found `caller`
    f.yaml:17:14: rules[0].match.asked: expected `true` or `false`, found `yes`
      hint: write `true`
    f.yaml:21:20: rules[1].match.path: expected a path such as `/authorize/*`, beginning with `/` or `*`, found `^/v1`
      hint: write `{ regex: '^/v1' }`
    f.yaml:21:32: rules[1].match.body: expected conditions on a body, found `EUR`
      hint: write `{ contains: EUR }`
    f.yaml:21:47: rules[1].match.response: names no condition
      hint: say `status` or `headers`
    f.yaml:21:60: rules[1].match.request: expected a map such as `{ nth: 1-2, per: client }`, found the number 3
      hint: write `{ nth: 3 }`
    f.yaml:21:68: rules[1].match.all: names no conditions
      hint: leave it out
    f.yaml:21:78: rules[1].match.any[0]: names no condition
    f.yaml:21:96: rules[1].match.not.body: names no condition
      hint: say `contains`, `regex` or `json`
    f.yaml:25:20: rules[2].match.path: expected `{name}` for a part of a segment, found `/a{}`
      hint: for braces in a path itself use `{ regex: … }`
    f.yaml:25:35: rules[2].match.not.request: can't stand in `all`, `any` or `not`
      hint: put it beside them, directly under `match`
    f.yaml:25:66: rules[2].match.any[0].asked: can't stand in `all`, `any` or `not`
      hint: put it beside them, directly under `match`
    f.yaml:28:75: rules[3].match.not.not.not.not.not.not.not.not.not: conditions stand in each other 8 deep at most
    f.yaml:31:29: rules[4].match.path.regex: `(\w{100}){100}` is no regular expression here: it grows too large
    f.yaml:34:14: rules[5].match.response: `abort` acts before there is an answer: conditions on it come too late
      hint: leave `response` out, or use a kind that acts on answers, such as `response_loss` or `delay`
    f.yaml:37:5: rules[6].match: `drop` acts before there is an answer: conditions on it come too late
      hint: leave `response` out, or use a kind that acts on answers, such as `response_loss` or `delay`
    f.yaml:41:16: rules[7].direction: conditions on `response` are known when the request has passed
      hint: leave `direction` out, or say `downstream`
    f.yaml:44:39: rules[8].match.any[1]: these never hold together: `sni` is looked for on `tcp` proxies only
      hint: make a rule for each
    f.yaml:48:39: rules[9].match.any[1]: conditions on HTTP never hold here: this rule acts on `tcp` proxies only
      hint: set `protocol: http` on the proxy, or leave them out
    f.yaml:48:59: rules[9].match.not: conditions on HTTP never hold here: this rule acts on `tcp` proxies only
      hint: set `protocol: http` on the proxy, or leave them out
    f.yaml:52:53: rules[10].match.any[1].not.sni: never holds here: it is looked for on `tcp` proxies only
      hint: set `protocol: tcp` on the proxy, or match `host`
    f.yaml:56:46: rules[11].match.any[1].age: never holds in time on `db`: `refuse` acts when a connection is accepted, and `age` is known later
      hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    "#);
}

#[test]
fn addresses_meet_those_of_the_process() {
    let problems = bad("\
control: { listen: '[::]:8474', token_file: t }
metrics: { listen: localhost:8474 }
proxies:
  - { name: a, listen: 127.0.0.1:8474, upstream: a:1 }
  - { name: b, listen: localhost:1, upstream: 127.0.0.1:1, protocol: auto }
  - { name: c, listen: 127.0.0.1:2, upstream: c:0, connect_timeout: 0 }
");
    assert_snapshot!(problems, @r#"
    f.yaml:2:20: metrics.listen: this address is taken by `control.listen`, `[::]:8474`
      hint: leave `metrics` out: the control API has /metrics as well
    f.yaml:4:24: proxies[0].listen: this address is taken by `control.listen`, `[::]:8474`
    f.yaml:5:47: proxies[1].upstream: this is the proxy's own address: it would dial itself for ever
    f.yaml:6:47: proxies[2].upstream: nothing can be reached at port 0: `c:0`
    f.yaml:6:69: proxies[2].connect_timeout: expected a duration longer than 0, found the number 0
    "#);
}

#[test]
fn keys_that_stand_twice_and_merge_keys() {
    let problems = bad("\
seed: 1
proxies:
  - &p { name: a, listen: 127.0.0.1:0, upstream: a:1 }
  - <<: *p
    name: b
    name: c
rules:
  - name: r
    match: { headers: { x: 1, y: 2, x: 3 } }
    fault: { delay: { latency: 1s, latency: soon } }
seed: 2
");
    assert_snapshot!(problems, @r#"
    f.yaml:4:5: proxies[1]["<<"]: merge keys (`<<`) are not supported
      hint: write the keys out; an alias for a whole value works
    f.yaml:6:5: proxies[1].name: this key stands here already (line 5)
    f.yaml:9:37: rules[0].match.headers.x: this key stands here already (line 9)
    f.yaml:10:36: rules[0].fault.delay.latency: this key stands here already (line 10)
    f.yaml:11:1: seed: this key stands here already (line 1)
    "#);
}

#[test]
fn a_mistake_behind_an_alias_is_shown_where_it_stands() {
    let problems = bad("\
proxies: [{ name: a, listen: 127.0.0.1:0, upstream: a:1 }]
rules:
  - name: r
    fault: &f
      delay: { latency: soon }
  - name: s
    fault: *f
");
    assert_snapshot!(problems, @r#"
    f.yaml:5:25: rules[0].fault.delay.latency: expected a duration such as `150ms`, `2s` or `1m30s`, found `soon`
    f.yaml:5:25: rules[1].fault.delay.latency: expected a duration such as `150ms`, `2s` or `1m30s`, found `soon`
    "#);
}

#[test]
fn places_are_counted_in_characters() {
    let problems = bad("proxies: [{ name: 'äö', x: 1 }]\r\n\"o.d\\a\\e[1m\": 1\r\n");
    assert_snapshot!(problems, @r#"
    f.yaml:1:11: proxies[0].listen: missing; expected an address such as `127.0.0.1:7001`
    f.yaml:1:11: proxies[0].upstream: missing; expected an address such as `127.0.0.1:8001` or `payment:8001`
    f.yaml:1:19: proxies[0].name: expected a name: 1 to 64 letters, digits, `_`, `.` or `-`, found `äö`
    f.yaml:1:25: proxies[0].x: unknown key `x`
      hint: allowed here: `name`, `from`, `to`, `listen`, `upstream`, `enabled`, `protocol`, `connect_timeout`, `max_connections`, `tls`, `proxy_protocol`, `upstream_host`, `forwarded`
    f.yaml:2:1: ["o.d\u{7}\u{1b}[1m"]: unknown key `o.d\u{7}\u{1b}[1m`
      hint: allowed here: `seed`, `control`, `metrics`, `evidence`, `traces`, `identity`, `limits`, `proxies`, `rules`, `partitions`
    "#);
}

#[test]
fn syntax_ends_at_its_first_mistake() {
    assert_snapshot!(bad("proxies:\n  - name: a\n bad: [\n"), @r#"f.yaml:3:2: did not find expected key, while parsing a block mapping"#);
    assert_snapshot!(bad("a: *nowhere"), @r#"f.yaml:1:4: unknown anchor"#);
    assert_snapshot!(bad("a: \"\n"), @r#"f.yaml:2:1: found unexpected end of stream, while scanning a quoted scalar at line 1 column 4"#);
    assert_snapshot!(bad("seed: 1\n---\nseed: 2\n"), @r#"
    f.yaml: more than one document
      hint: take the `---` out, or make a file of each
    "#);
    assert_snapshot!(bad("? [a]\n: 1"), @r#"f.yaml:1:3: invalid type: sequence, expected a key that is a text"#);
    assert_snapshot!(bad("\tseed: 1"), @r#"f.yaml:1:1: found character that cannot start any token, while scanning for the next token"#);
    assert_snapshot!(bad("seed: 1\nä: \u{1b}[1m"), @r#"
    f.yaml:2:4: control characters are not allowed, found `\u{1b}`
      hint: in double quotes it can be written so
    "#);
}

#[test]
fn wrong_shapes() {
    assert_snapshot!(bad("[]"), @r#"f.yaml:1:1: expected a map, found a list"#);
    assert_snapshot!(bad("hello"), @r#"f.yaml:1:1: expected a map, found `hello`"#);
    assert_snapshot!(bad("proxies: {}\nrules: 5\ncontrol: !x {}\nseed: -1\nidentity: { header: 1 }\n"), @r#"
    f.yaml:1:10: proxies: expected a list of proxies, found a map
    f.yaml:2:8: rules: expected a list of rules, found the number 5
    f.yaml:3:10: control: expected a map, found a value tagged `!x`
    f.yaml:4:7: seed: expected a whole number, found the number -1
    f.yaml:5:21: identity.header: expected the name of a header, found the number 1
      hint: write it in quotes: `"1"`
    "#);
    assert_snapshot!(bad("rules: [null, { name: , proxies: , fault: }]"), @r#"
    f.yaml:1:9: rules[0]: expected a map, found nothing
    f.yaml:1:23: rules[1].name: expected a name: 1 to 129 letters, digits, `_`, `.`, `-` or `/`, found nothing
    f.yaml:1:34: rules[1].proxies: expected a list of proxies such as `[payment]`, found nothing
    f.yaml:1:43: rules[1].fault: expected one kind with its parameters, such as `{ delay: { latency: 150ms } }`, found nothing
    "#);
}

/// Where it is not known what comes, a rule is wrong only if it could act on neither.
#[test]
fn what_never_holds_where_both_may_come() {
    let problems = bad("\
proxies:
  - { name: any, listen: 127.0.0.1:0, upstream: any:80, protocol: auto, forwarded: { forwarded: true } }
rules:
  - { name: a, match: { sni: a.example }, fault: { drop: {} } }
  - { name: b, proxies: [any], match: { method: GET }, fault: { slow_close: { delay: 1s } } }
  - { name: c, proxies: [any], match: { sni: a.example }, fault: { refuse: {} } }
  - { name: d, proxies: [any], match: { path: /x }, fault: { slow_connect: { delay: 1s } } }
  - { name: e, proxies: [any], match: { sni: a.example, path: /x }, fault: { reset: {} } }
  - { name: f, proxies: [any], fault: { tls: { how: stall } } }
  - { name: fine, proxies: [any], match: { sni: a.example }, fault: { reset: {} } }
  - { name: fine-too, match: { path: /x }, fault: { reset: {} } }
  - { name: as-well, proxies: [any], fault: { response_loss: { then: 504 } } }
  - { name: also, proxies: [any], fault: { duplicate: { answer: last } } }
  - { name: last, match: { age: 1s }, fault: { drop: {} } }
");
    assert_snapshot!(problems, @r#"
    f.yaml:4:30: rules[0].match.sni: never holds here: with `protocol: auto`, `drop` acts on HTTP only
      hint: match `host`, or use a kind that acts on bytes, such as `reset` or `timeout`
    f.yaml:5:39: rules[1].match: conditions on HTTP never hold here: `slow_close` acts on what is no HTTP
      hint: leave them out
    f.yaml:6:46: rules[2].match.sni: never holds in time on `any`: `refuse` acts when a connection is accepted, and `sni` is known later
      hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    f.yaml:7:39: rules[3].match: never holds in time on `any`: `slow_connect` acts when a connection is accepted, and a condition on HTTP is known later
      hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    f.yaml:8:46: rules[4].match.sni: never holds together with conditions on HTTP: it is looked for on `tcp` proxies only
      hint: make a rule for each
    f.yaml:9:41: rules[5].fault.tls: `tls` can't act on `any`: no TLS is spoken with clients there
      hint: it needs a proxy with `tls: { terminate: { … } }`
    "#);
}

/// What is wrong with a proxy is said once: rules and partitions that lean on it are not blamed.
#[test]
fn one_mistake_is_one_problem() {
    let problems = bad("\
proxies:
  - { name: api, listen: 127.0.0.1:0, upstream: api:80, protocol: htttp, from: shop }
rules:
  - { name: a, proxies: [api], match: { path: /x }, fault: { abort: {} } }
  - { name: b, fault: { abort: {} } }
partitions:
  - { name: c, between: [[shop], [api]] }
");
    assert_snapshot!(problems, @r#"
    f.yaml:2:67: proxies[0].protocol: expected one of `tcp`, `http`, `auto`, found `htttp`
      hint: did you mean `http`?
    "#);
}

/// The list of all kinds, which grows, by another name.
fn every_kind_named(problems: &crate::config::Problems) -> String {
    let names = crate::faults::KINDS.iter().map(|k| format!("`{}`", k.name));
    let names: Vec<_> = names.collect();
    problems
        .to_string()
        .replace(&names.join(", "), "ALL OF THEM")
}
