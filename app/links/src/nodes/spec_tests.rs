//! What SPEC.md says that a gateway does, sentence by sentence: each test quotes what
//! it holds hark to, so that neither changes without the other.

use super::*;
use hark_config::Config as HarkConfig;
use hark_engine::Now;
use hark_hal::Clock;
use hark_serve::bundle::Rungs;
use hark_serve::report;
use hark_wire::{Channel, Log, NO_VALUE, Reading, encode};

/// The raw value of a channel is this many times its value.
const PER_UNIT: f32 = 1000.0;

/// A sentence of the specification, whatever its line breaks.
fn quote(sentence: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let spec = include_str!("../../../../hal/wire/SPEC.md");
    assert!(
        words(spec).contains(&words(sentence)),
        "SPEC.md lacks {sentence:?}"
    );
}

/// A gateway, its nodes and its time.
struct Gateway {
    nodes: Nodes,
    hot_path: HotPath,
    now_us: u64,
    /// A valid reading in raw values.
    values: Vec<i32>,
    hello: Hello,
}

impl Gateway {
    fn new(source: &str) -> Self {
        let config = HarkConfig::of_text(&format!(
            "device = {{ name = \"gateway\", sensors_max = 8 }}\n\
             [[sources]]\nname = \"line\"\nkind = \"serial\"\nport = \"/dev/null\"\n{source}"
        ))
        .unwrap();
        let rungs = Rungs::open(&config.models[0]).unwrap();
        let (reporter, _reports, _verdicts) = report::channel();
        let source = &config.sources[0];
        let hot_path = HotPath::new(source, &config, &rungs, reporter, Clock::start()).unwrap();
        let row = &rungs.golden_readings()[0];
        let values = row.iter().map(|x| (x * PER_UNIT) as i32).collect();
        let channels = hot_path.schema().channels.iter().map(|channel| Channel {
            name: channel.name.as_str().try_into().unwrap(),
            unit: channel.unit.as_str().try_into().unwrap(),
            scale: 1.0 / PER_UNIT,
        });
        let hello = Hello {
            node: "press".try_into().unwrap(),
            boot_id: 1,
            channels: channels.collect(),
            ..Hello::default()
        };
        Self {
            nodes: Nodes::new("line", &source.nodes, hot_path.sensors_max()).unwrap(),
            hot_path,
            now_us: 1,
            values,
            hello,
        }
    }

    fn receipt(&mut self) -> Receipt {
        self.now_us += 100_000;
        let now = Now {
            mono_us: self.now_us,
            utc_us: self.now_us as i64,
        };
        now.into()
    }

    fn send(&mut self, message: &Message) {
        let mut frame = [0; FRAME_MAX];
        let mut bytes = &*encode(message, &mut frame);
        let receipt = self.receipt();
        let (nodes, hot_path) = (&mut self.nodes, &mut self.hot_path);
        while nodes.handle_next(&mut bytes, None, receipt, hot_path) {}
    }

    fn publish(&mut self, topic: &str, message: &Message) {
        let mut frame = [0; FRAME_MAX];
        self.publish_bytes(topic, encode(message, &mut frame));
    }

    fn publish_bytes(&mut self, topic: &str, payload: &[u8]) {
        let receipt = self.receipt();
        self.nodes
            .handle_payload(payload, topic, None, receipt, &mut self.hot_path);
    }

    fn hello(&self) -> Message {
        Message::Hello(self.hello.clone())
    }

    fn hello_of(&self, change: impl FnOnce(&mut Hello)) -> Message {
        let mut hello = self.hello.clone();
        change(&mut hello);
        Message::Hello(hello)
    }

    fn reading(&self, sequence: u32) -> Message {
        self.reading_of(sequence, |_| {})
    }

    fn reading_of(&self, sequence: u32, change: impl FnOnce(&mut Reading)) -> Message {
        let mut reading = Reading {
            sequence,
            timestamp_us: 1_000_000 + u64::from(sequence) * 100_000,
            values: self.values.iter().copied().collect(),
        };
        change(&mut reading);
        Message::Reading(reading)
    }

    /// What is asked of the line's node, if anything.
    fn asks_line(&mut self) -> Option<Config> {
        self.nodes.poll_answer().map(|message| match message {
            Message::Config(config) => config,
            other => panic!("{other:?}"),
        })
    }

    /// The topics whose nodes are asked.
    fn asks(&mut self) -> Vec<String> {
        let asks = std::iter::from_fn(|| self.nodes.poll_ask());
        asks.map(|(topic, _)| topic.into()).collect()
    }

    /// Ends it, and checks how many readings there were and why which were rejected.
    fn check(self, readings: u64, rejected: &[(&str, u64)]) -> u64 {
        let counters = self.hot_path.finish().0.counters;
        let counts = Rejection::all().map(|reason| {
            let count = counters.rejected_by_reason[reason.index()];
            (reason.name(), count)
        });
        let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, rejected);
        assert_eq!(counters.readings, readings);
        counters.missed
    }
}

/// A gateway whose line's node has said its Hello.
fn met() -> Gateway {
    let mut gateway = Gateway::new("");
    let hello = gateway.hello();
    gateway.send(&hello);
    while gateway.asks_line().is_some() {}
    gateway
}

#[test]
fn another_boot_id_is_a_restart_and_the_same_changes_nothing() {
    quote("the gateway takes another boot_id for a restart and starts its windows anew");
    quote(
        "A Hello with the boot_id and the name of the one before changes nothing but the channels.",
    );
    let mut gateway = met();
    for boot_id in [1, 1, 2] {
        let hello = gateway.hello_of(|hello| hello.boot_id = boot_id);
        gateway.send(&hello);
        let reading = gateway.reading(5);
        gateway.send(&reading);
    }
    gateway.check(3, &[("duplicate", 1)]);
}

#[test]
fn a_hello_by_which_nobody_could_read_is_refused() {
    quote(
        "The names of its channels differ from each other; a scale is finite and not 0, and may be negative.",
    );
    quote(
        "The gateway refuses a Hello that breaks this, counts it, and forgets the Hello before it.",
    );
    let check = |change: fn(&mut Hello)| {
        let mut gateway = met();
        let messages = [gateway.hello_of(change), gateway.reading(1)];
        messages.iter().for_each(|message| gateway.send(message));
        gateway.check(2, &[("no_hello", 1), ("bad_hello", 1)]);
    };
    check(|hello| hello.channels[0].scale = f32::NAN);
    check(|hello| hello.channels[1].scale = f32::INFINITY);
    check(|hello| hello.channels[2].scale = 0.0);
    check(|hello| hello.channels[2].scale = -0.0);
    check(|hello| hello.channels[1].name = hello.channels[0].name.clone());
    // Of a channel that is not needed, too: nobody could read it.
    check(|hello| {
        let more = Channel {
            scale: f32::NAN,
            ..Channel::default()
        };
        hello.channels.push(more).unwrap();
    });

    let mut gateway = Gateway::new("");
    let hello = gateway.hello_of(|hello| hello.channels[0].scale *= -1.0);
    gateway.send(&hello);
    let reading = gateway.reading_of(1, |reading| reading.values[0] *= -1);
    gateway.send(&reading);
    gateway.check(1, &[]);
}

#[test]
fn a_value_is_the_exact_product_rounded_once() {
    quote(
        "The physical value is value × scale, in the channel's unit: the exact product, rounded once to the nearest `f32`.",
    );
    // Rounded before as well, 16777217 would be 16777216, and the product less by 4.
    assert_eq!(hark_wire::physical(16_777_217, 3.0), Some(50_331_652.0));
    assert_eq!(hark_wire::physical(-3, 0.5), Some(-1.5));
    assert_eq!(hark_wire::physical(NO_VALUE, 1.0), None);
}

#[test]
fn channels_are_found_by_name_and_their_unit_is_held_against_the_gateways() {
    quote(
        "It finds them by name, and holds their unit against its own, both byte for byte: `bar` is not `Bar`, and nothing is converted.",
    );
    quote("Channels that it does not need change nothing.");
    quote(
        "If one is missing or has another unit, it rejects each Reading until another Hello comes, with that reason.",
    );
    let check = |change: fn(&mut Hello), reason| {
        let mut gateway = Gateway::new("");
        let messages = [
            gateway.hello_of(change),
            gateway.reading(1),
            gateway.reading(2),
            gateway.hello_of(|hello| hello.boot_id = 9),
            gateway.reading(3),
        ];
        messages.iter().for_each(|message| gateway.send(message));
        gateway.check(3, &[(reason, 2)]);
    };
    check(
        |hello| {
            let name = hello.channels[1].name.to_ascii_uppercase();
            hello.channels[1].name = name.as_str().try_into().unwrap();
        },
        "missing_channel",
    );
    check(|hello| hello.channels[1].unit.push('x').unwrap(), "unit");

    let mut gateway = Gateway::new("");
    let hello = gateway.hello_of(|hello| {
        let more = Channel {
            name: "more".try_into().unwrap(),
            ..hello.channels[0].clone()
        };
        hello.channels.insert(0, more).unwrap();
        hello.channels.reverse();
    });
    gateway.send(&hello);
    let reading = gateway.reading_of(1, |reading| {
        reading.values.insert(0, i32::MAX).unwrap();
        reading.values.reverse();
    });
    gateway.send(&reading);
    gateway.check(1, &[]);
}

#[test]
fn a_value_that_is_none_rejects_the_reading_where_the_channel_is_needed() {
    quote(
        "The gateway rejects a Reading that lacks the value of a channel that it needs, as a whole; in other channels \"none\" changes nothing.",
    );
    let mut gateway = met();
    let reading = gateway.reading_of(1, |reading| reading.values[0] = NO_VALUE);
    gateway.send(&reading);
    let hello = gateway.hello_of(|hello| {
        let more = Channel {
            name: "more".try_into().unwrap(),
            ..hello.channels[0].clone()
        };
        hello.channels.push(more).unwrap();
    });
    gateway.send(&hello);
    let reading = gateway.reading_of(2, |reading| reading.values.push(NO_VALUE).unwrap());
    gateway.send(&reading);
    gateway.check(2, &[("missing_channel", 1)]);
}

#[test]
fn a_reading_of_other_length_or_before_the_hello_is_rejected() {
    quote(
        "It rejects a Reading that has another number of values than the Hello has channels, and one that comes before the Hello, and asks for the Hello then.",
    );
    let mut gateway = Gateway::new("");
    let messages = [gateway.reading(1), gateway.hello(), {
        gateway.reading_of(2, |reading| reading.values.truncate(1))
    }];
    gateway.send(&messages[0]);
    assert!(gateway.asks_line().unwrap().say_hello);
    messages[1..]
        .iter()
        .for_each(|message| gateway.send(message));
    gateway.check(2, &[("no_hello", 1), ("channel_count", 1)]);
}

#[test]
fn what_is_missing_is_counted_and_what_goes_back_is_rejected() {
    quote("The sequence goes up by one and wraps to 0. The gateway counts what is missing.");
    quote(
        "A number that goes back is rejected: as a duplicate if it was seen among the last 64, else as reordered.",
    );
    let mut gateway = met();
    for sequence in [u32::MAX - 1, u32::MAX, 0, 3, 1, 3] {
        let reading = gateway.reading(sequence);
        gateway.send(&reading);
    }
    let missed = gateway.check(6, &[("duplicate", 1), ("reordered", 1)]);
    assert_eq!(missed, 2, "1 and 2, of which one came late");
}

#[test]
fn a_count_that_goes_on_from_elsewhere_is_a_restart() {
    quote(
        "Three such in a row, each one more than the last, are a restart of the count, 32 if they were seen, and so is a jump ahead of more than 1048576.",
    );
    let mut gateway = met();
    let jump = 1_000 + 1_048_577;
    for sequence in [1_000, 500, 501, 502, 503, jump + 503, jump + 504] {
        let reading = gateway.reading(sequence);
        gateway.send(&reading);
    }
    let missed = gateway.check(7, &[("reordered", 2)]);
    assert_eq!(missed, 0, "nobody knows how many");

    let mut gateway = met();
    for sequence in (0..60).chain(0..33) {
        let reading = gateway.reading(sequence);
        gateway.send(&reading);
    }
    gateway.check(93, &[("duplicate", 31)]);
}

#[test]
fn a_time_that_goes_back_rejects_nothing() {
    quote(
        "One that goes back rejects nothing: the gateway takes the clock for begun anew. One of 2⁶³ or more counts as none.",
    );
    let mut gateway = Gateway::new("clock = \"node\"\n");
    let hello = gateway.hello();
    gateway.send(&hello);
    for (sequence, timestamp_us) in [(1, 900_000_000), (2, 5), (3, 100_005), (4, u64::MAX)] {
        let reading = gateway.reading_of(sequence, |reading| reading.timestamp_us = timestamp_us);
        gateway.send(&reading);
    }
    gateway.check(4, &[]);
}

#[test]
fn a_restart_told_by_health_costs_no_reading() {
    quote(
        "Another boot_id than the Hello's tells of a restart whose Hello was lost: the gateway starts sequence, clock and windows anew, asks for the Hello, and reads by the one before until it comes.",
    );
    let health = |boot_id| {
        Message::Health(Health {
            boot_id,
            ..Health::default()
        })
    };
    let mut gateway = met();
    gateway.send(&health(1));
    for sequence in 0..10 {
        let reading = gateway.reading(sequence);
        gateway.send(&reading);
    }
    assert_eq!(gateway.asks_line(), None, "it is known");
    gateway.send(&health(2));
    assert!(gateway.asks_line().unwrap().say_hello);
    for sequence in 0..10 {
        let reading = gateway.reading(sequence);
        gateway.send(&reading);
    }
    // Its Hello, in answer, tells of the same restart.
    let hello = gateway.hello_of(|hello| hello.boot_id = 2);
    gateway.send(&hello);
    let reading = gateway.reading(9);
    gateway.send(&reading);
    gateway.check(21, &[("duplicate", 1)]);
}

#[test]
fn a_config_is_ignored() {
    quote("A gateway ignores a Config: on a two-wire line it is its own echo.");
    let mut gateway = met();
    gateway.send(&Message::Config(Config::default()));
    gateway.publish("a", &Message::Config(Config::default()));
    assert_eq!(gateway.asks_line(), None);
    gateway.check(0, &[]);
}

#[test]
fn a_reading_is_that_of_the_last_hello_on_its_line() {
    quote(
        "A line has one node, since a Reading does not say whose it is: the gateway takes it for that of the last Hello.",
    );
    let mut gateway = met();
    let messages = [
        gateway.reading(5),
        gateway.hello_of(|hello| hello.node = "drill".try_into().unwrap()),
        gateway.reading(5),
    ];
    messages.iter().for_each(|message| gateway.send(message));
    let sensors = ["press", "drill"].map(|name| gateway.hot_path.find(name).is_some());
    assert_eq!(sensors, [true, true]);
    gateway.check(2, &[]);
}

#[test]
fn a_line_is_asked_when_it_is_opened_and_after_every_16_readings() {
    quote(
        "The gateway asks for the Hello when the line is opened, and again after every 16 Readings that it cannot read.",
    );
    let mut gateway = Gateway::new("");
    gateway.nodes.handle_link_up();
    assert!(gateway.asks_line().unwrap().say_hello);
    let mut asked = Vec::new();
    for sequence in 0..33 {
        let reading = gateway.reading(sequence);
        gateway.send(&reading);
        if gateway.asks_line().is_some_and(|config| config.say_hello) {
            asked.push(sequence);
        }
    }
    assert_eq!(asked, [0, 16, 32]);
}

#[test]
fn a_payload_is_one_frame() {
    quote(
        "A payload is one frame, with its delimiter or without. Anything else is rejected and counted: an empty payload, also that which removes a retained message, two frames, or a `00` in front.",
    );
    let mut gateway = Gateway::new("");
    let hello = gateway.hello();
    gateway.publish("a", &hello);
    let frame = |message: &Message| {
        let mut frame = [0; FRAME_MAX];
        encode(message, &mut frame).to_vec()
    };
    let mut one = frame(&gateway.reading(1));
    let two = frame(&gateway.reading(2));
    gateway.publish_bytes("a", &one);
    gateway.publish_bytes("a", &two[..two.len() - 1]);
    gateway.publish_bytes("a", &[]);
    gateway.publish_bytes("a", &[0]);
    gateway.publish_bytes("a", &[&[0], &two[..]].concat());
    one.extend(&two);
    gateway.publish_bytes("a", &one);
    gateway.publish_bytes("a", &[7; 2 * FRAME_MAX]);
    gateway.check(7, &[("corrupt", 4), ("oversize", 1)]);
}

#[test]
fn nodes_are_told_apart_by_their_topics() {
    quote(
        "Each node publishes all its messages on one topic of its own, of at most 512 bytes. The gateway tells nodes apart by their topics; two nodes of one name may well differ in their channels.",
    );
    quote("Where the gateway names the sensor after the node, two of one name are one sensor.");
    let mut gateway = Gateway::new("");
    // Each has its channels in another order, and another count.
    for (index, topic) in ["a", "b"].into_iter().enumerate() {
        let hello = gateway.hello_of(|hello| {
            hello.node = topic.try_into().unwrap();
            hello.channels.rotate_left(index);
        });
        gateway.publish(topic, &hello);
    }
    for sequence in 1..4 {
        for (index, topic) in ["a", "b"].into_iter().enumerate() {
            let reading = gateway.reading_of(sequence, |reading| reading.values.rotate_left(index));
            gateway.publish(topic, &reading);
        }
    }
    assert!(gateway.hot_path.find("a").is_some() && gateway.hot_path.find("b").is_some());
    let hello = gateway.hello_of(|hello| hello.node = "a".try_into().unwrap());
    gateway.publish("c", &hello);
    let reading = gateway.reading(3);
    gateway.publish("c", &reading);
    gateway.publish("a", &reading);
    gateway.publish(&"t".repeat(513), &hello);
    gateway.check(9, &[("oversize", 1), ("duplicate", 1)]);
}

#[test]
fn a_node_whose_hello_is_missed_is_asked_on_its_topic() {
    quote(
        "A gateway that misses the Hello of a topic publishes a Config there with `/config` behind it: period_ms 0, running 1, say_hello 1.",
    );
    quote(
        "It is asked at the first Reading or Health that the gateway cannot match with a Hello, and while it does not answer once in 10 s.",
    );
    let mut gateway = Gateway::new("");
    let reading = gateway.reading(1);
    gateway.publish("a", &reading);
    let (topic, message) = gateway.nodes.poll_ask().unwrap();
    let config = Config {
        period_ms: 0,
        running: true,
        say_hello: true,
    };
    assert_eq!((&*topic, message), ("a", Message::Config(config)));
    gateway.publish("b", &Message::Health(Health::default()));
    gateway.publish("a", &reading);
    assert_eq!(gateway.asks(), ["b"]);
    assert_eq!(gateway.asks_line(), None, "there is no line");
    gateway.now_us += 10_000_000;
    gateway.publish("a", &reading);
    assert_eq!(gateway.asks(), ["a"]);
    let hello = gateway.hello();
    gateway.publish("a", &hello);
    gateway.publish("a", &reading);
    gateway.publish(
        "a",
        &Message::Health(Health {
            boot_id: 2,
            ..Health::default()
        }),
    );
    assert_eq!(gateway.asks(), ["a"], "another boot");
    gateway.check(4, &[("no_hello", 3)]);
}

#[test]
fn what_comes_twice_changes_nothing() {
    quote(
        "At QoS 1 a message may come twice; a Reading is a duplicate then, a Hello changes nothing.",
    );
    quote("A retained Hello counts as any other.");
    let mut gateway = Gateway::new("");
    let messages = [gateway.hello(), gateway.reading(1)];
    for message in messages.iter().chain(&messages) {
        gateway.publish("a", message);
    }
    gateway.check(2, &[("duplicate", 1)]);
}

#[test]
fn a_flood_of_hellos_takes_no_place_of_a_node_that_sends() {
    quote("The gateway keeps as many nodes as it may have sensors.");
    quote(
        "When all places are taken, a Hello takes that of a node from which no valid Reading came, or none for a minute; without any, it is rejected and counted.",
    );
    let mut gateway = Gateway::new("");
    let hello = gateway.hello();
    for n in 0..8 {
        let topic = format!("pump/{n}");
        let hello = gateway.hello_of(|hello| hello.node = topic[5..].try_into().unwrap());
        gateway.publish(&topic, &hello);
        let reading = gateway.reading(1);
        gateway.publish(&topic, &reading);
    }
    gateway.publish("invented", &hello);
    gateway.now_us += 60_000_000;
    let reading = gateway.reading(2);
    gateway.publish("pump/0", &reading);
    for n in 0..100 {
        gateway.publish(&format!("invented/{n}"), &hello);
    }
    let reading = gateway.reading(3);
    gateway.publish("pump/0", &reading);
    gateway.check(11, &[("unknown_sensor", 1)]);
}

#[test]
fn a_log_without_a_hello_is_no_reading() {
    quote("**Log** carries a piece of the node's defmt stream; pieces are joined in order.");
    let mut gateway = Gateway::new("");
    gateway.publish("a", &Message::Log(Log::default()));
    gateway.check(0, &[]);
}
