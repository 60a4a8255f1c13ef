//! Units: which spellings are one unit, and how one becomes another.
//!
//! A unit is read as UCUM and the field write it: factors with powers, joined
//! by `.`, `*`, `·` and `/`, each with an SI prefix where its unit takes one.
//! Two units are of one kind if their dimensions are the same; then a value of
//! one becomes a value of the other by a factor, for temperatures also by an
//! offset. A unit that is not read is only ever equal to its own spelling.

/// `value · scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Linear {
    pub(crate) scale: f64,
    pub(crate) offset: f64,
}

impl Linear {
    pub(crate) const SAME: Self = Self {
        scale: 1.0,
        offset: 0.0,
    };

    pub(crate) fn apply(&self, value: f64) -> f64 {
        value * self.scale + self.offset
    }

    /// First `self`, then `next`.
    pub(crate) fn then(&self, next: &Self) -> Self {
        Self {
            scale: self.scale * next.scale,
            offset: next.apply(self.offset),
        }
    }
}

/// What one unit is to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Relation {
    /// The same, however it is spelt.
    Same,
    /// Of the same kind: how a value of the first becomes one of the second.
    Converts(Linear),
    /// Of another kind, or not known.
    Other,
}

/// What `from` is to `to`.
pub(crate) fn relate(from: &str, to: &str) -> Relation {
    let (from, to) = (Spelling::new(from), Spelling::new(to));
    if from.text() == to.text() {
        return Relation::Same;
    }
    // `g` is gram and gravity: whichever the other side makes sense of.
    for [from_gravity, to_gravity] in [[false, false], [true, false], [false, true]] {
        let units = (
            from.read(from_gravity).or_else(|| from.read(false)),
            to.read(to_gravity).or_else(|| to.read(false)),
        );
        if let (Some(from), Some(to)) = units
            && from.dimension == to.dimension
        {
            return from.to(&to);
        }
    }
    Relation::Other
}

/// Whether `unit` is one that is read.
pub(crate) fn is_known(unit: &str) -> bool {
    !unit.is_empty() && Spelling::new(unit).read(false).is_some()
}

/// Exponents of metre, gram, second, ampere, kelvin, radian, bel, apparent and
/// reactive power (which are no watts, although they could be), lux, mole.
type Dimension = [i8; 10];

const NONE: Dimension = [0; 10];
const METRE: Dimension = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const GRAM: Dimension = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
const SECOND: Dimension = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
const AMPERE: Dimension = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
const KELVIN: Dimension = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
const RADIAN: Dimension = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
const BEL: Dimension = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
const APPARENT: Dimension = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
const REACTIVE: Dimension = [0, 0, 0, 0, 0, 0, 0, 2, 0, 0];
const LUX: Dimension = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const MOLE: Dimension = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const HERTZ: Dimension = [0, 0, -1, 0, 0, 0, 0, 0, 0, 0];
const VOLUME: Dimension = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SPEED: Dimension = [1, 0, -1, 0, 0, 0, 0, 0, 0, 0];
const ACCELERATION: Dimension = [1, 0, -2, 0, 0, 0, 0, 0, 0, 0];
const FLOW: Dimension = [3, 0, -1, 0, 0, 0, 0, 0, 0, 0];
const NEWTON: Dimension = [1, 1, -2, 0, 0, 0, 0, 0, 0, 0];
const PASCAL: Dimension = [-1, 1, -2, 0, 0, 0, 0, 0, 0, 0];
const JOULE: Dimension = [2, 1, -2, 0, 0, 0, 0, 0, 0, 0];
const WATT: Dimension = [2, 1, -3, 0, 0, 0, 0, 0, 0, 0];
const VOLT: Dimension = [2, 1, -3, -1, 0, 0, 0, 0, 0, 0];
const OHM: Dimension = [2, 1, -3, -2, 0, 0, 0, 0, 0, 0];
const SIEMENS: Dimension = [-2, -1, 3, 2, 0, 0, 0, 0, 0, 0];
const FARAD: Dimension = [-2, -1, 4, 2, 0, 0, 0, 0, 0, 0];
const TESLA: Dimension = [0, 1, -2, -1, 0, 0, 0, 0, 0, 0];

/// Standard gravity, m/s² (CGPM 1901).
const GRAVITY: f64 = 9.806_65;

/// Spellings, dimension, value of one in base units, and whether prefixes fit.
type Atom = (&'static [&'static str], Dimension, f64, bool);

// BIPM, The International System of Units, 9th edition; pound, inch and their kin
// by the international yard and pound agreement of 1959.
const ATOMS: &[Atom] = &[
    (&["1", ""], NONE, 1.0, false),
    (
        &["%", "%RH", "%rH", "%rh", "pct", "percent"],
        NONE,
        1e-2,
        false,
    ),
    (&["‰", "permille"], NONE, 1e-3, false),
    (&["ppm", "[ppm]", "ppmv"], NONE, 1e-6, false),
    (&["ppb", "[ppb]"], NONE, 1e-9, false),
    (
        &["m", "meter", "metre", "meters", "metres"],
        METRE,
        1.0,
        true,
    ),
    (&["in", "[in_i]", "inch", "inches"], METRE, 0.0254, false),
    (&["mil", "thou"], METRE, 2.54e-5, false),
    (&["ft", "[ft_i]", "foot", "feet"], METRE, 0.3048, false),
    (&["mi", "[mi_i]", "mile", "miles"], METRE, 1609.344, false),
    (&["g", "gram", "grams"], GRAM, 1.0, true),
    (&["t", "ton", "tonne"], GRAM, 1e6, false),
    (&["lb", "lbs", "[lb_av]"], GRAM, 453.592_37, false),
    (&["s", "sec", "second", "seconds"], SECOND, 1.0, true),
    (&["min", "minute", "minutes"], SECOND, 60.0, false),
    (&["h", "hr", "hour", "hours"], SECOND, 3600.0, false),
    (&["d", "day", "days"], SECOND, 86_400.0, false),
    (
        &["A", "amp", "amps", "ampere", "amperes"],
        AMPERE,
        1.0,
        true,
    ),
    (&["Ah"], [0, 0, 1, 1, 0, 0, 0, 0, 0, 0], 3600.0, true),
    (&["K", "kelvin"], KELVIN, 1.0, true),
    (&["rad"], RADIAN, 1.0, true),
    (
        &["deg", "°", "degree", "degrees"],
        RADIAN,
        std::f64::consts::PI / 180.0,
        false,
    ),
    (&["dB", "dBA", "dB(A)", "decibel"], BEL, 1.0, false),
    (&["VA"], APPARENT, 1.0, true),
    (&["var", "VAr", "VAR"], REACTIVE, 1.0, true),
    (&["lx", "lux"], LUX, 1.0, true),
    (&["mol"], MOLE, 1.0, true),
    (&["Hz", "hertz"], HERTZ, 1.0, true),
    (
        &["rpm", "RPM", "{rpm}", "U/min", "rev/min", "r/min"],
        HERTZ,
        1.0 / 60.0,
        false,
    ),
    (&["rps", "r/s", "rev/s"], HERTZ, 1.0, false),
    (
        &["l", "L", "liter", "litre", "liters", "litres"],
        VOLUME,
        1e-3,
        true,
    ),
    (&["gal", "[gal_us]"], VOLUME, 3.785_411_784e-3, false),
    (&["kmh", "kph"], SPEED, 1.0 / 3.6, false),
    (&["mph", "[mi_i]/h"], SPEED, 0.447_04, false),
    (
        &["kn", "kt", "knot", "knots", "[kn_i]"],
        SPEED,
        1852.0 / 3600.0,
        false,
    ),
    (&["ips"], SPEED, 0.0254, false),
    (&["fpm"], SPEED, 0.005_08, false),
    (&["Gal"], ACCELERATION, 1e-2, true),
    (&["[g]", "g0", "gn", "G"], ACCELERATION, GRAVITY, true),
    (&["lpm", "LPM"], FLOW, 1e-3 / 60.0, false),
    (&["gpm", "GPM"], FLOW, 3.785_411_784e-3 / 60.0, false),
    (&["cfm", "CFM"], FLOW, 0.028_316_846_592 / 60.0, false),
    (&["N", "newton"], NEWTON, 1e3, true),
    (&["lbf", "[lbf_av]"], NEWTON, 4_448.221_615_260_5, false),
    (&["Pa", "pascal"], PASCAL, 1e3, true),
    (&["bar"], PASCAL, 1e8, true),
    (&["psi", "PSI", "[psi]"], PASCAL, 6_894_757.293_168, false),
    (&["atm"], PASCAL, 101_325e3, false),
    (&["Torr", "torr"], PASCAL, 101_325e3 / 760.0, false),
    (&["mmHg", "mm[Hg]"], PASCAL, 133_322.387_415, false),
    (&["inHg", "[in_i'Hg]"], PASCAL, 3_386_388.640_341, false),
    (&["mmH2O", "mm[H2O]"], PASCAL, 9_806.65, false),
    (&["inH2O", "[in_i'H2O]"], PASCAL, 249_088.91, false),
    (&["J", "joule"], JOULE, 1e3, true),
    (&["Wh"], JOULE, 3.6e6, true),
    (&["cal"], JOULE, 4184.0, true),
    (&["W", "watt", "watts"], WATT, 1e3, true),
    (&["hp", "HP", "[HP]"], WATT, 745_699.871_582_270_2, false),
    (&["V", "volt", "volts"], VOLT, 1e3, true),
    (&["Ohm", "ohm", "ohms", "Ω", "\u{2126}"], OHM, 1e3, true),
    (&["S", "siemens"], SIEMENS, 1e-3, true),
    (&["T", "tesla"], TESLA, 1e3, true),
    (&["farad"], FARAD, 1e-3, false),
];

/// Degrees by their spellings, the size of one in kelvin, and their zero.
const DEGREES: &[(&[&str], f64, f64)] = &[
    (
        &[
            "C",
            "degC",
            "°C",
            "℃",
            "Cel",
            "celsius",
            "degcelsius",
            "degreescelsius",
            "degreecelsius",
            "oC",
        ],
        1.0,
        273.15,
    ),
    (
        &[
            "F",
            "degF",
            "°F",
            "℉",
            "[degF]",
            "fahrenheit",
            "degfahrenheit",
            "degreesfahrenheit",
            "oF",
        ],
        5.0 / 9.0,
        459.67 * 5.0 / 9.0,
    ),
    (&["degK", "°K"], 1.0, 0.0),
];

const PREFIXES: &[(&str, f64)] = &[
    ("da", 1e1),
    ("h", 1e2),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("d", 1e-1),
    ("c", 1e-2),
    ("m", 1e-3),
    ("u", 1e-6),
    ("n", 1e-9),
    ("p", 1e-12),
];

/// A unit in base units.
struct Read {
    dimension: Dimension,
    scale: f64,
    offset: f64,
}

impl Read {
    fn to(&self, other: &Self) -> Relation {
        let linear = Linear {
            scale: self.scale / other.scale,
            offset: (self.offset - other.offset) / other.scale,
        };
        // Factors of ten that are multiplied in another order differ in the last bit.
        let is_one = (linear.scale - 1.0).abs() < 1e-12 && linear.offset.abs() < 1e-9;
        if is_one {
            Relation::Same
        } else {
            Relation::Converts(linear)
        }
    }
}

/// The longest unit that is read, bytes.
const UNIT_MAX: usize = 32;

/// A unit's text, with one way to write what there are several ways for.
struct Spelling {
    bytes: [u8; UNIT_MAX],
    len: usize,
}

impl Spelling {
    /// Longer ones are cut: nothing that long is equal to anything that is read.
    fn new(text: &str) -> Self {
        let mut spelling = Self {
            bytes: [0; UNIT_MAX],
            len: 0,
        };
        for character in text.chars() {
            match character {
                '\u{b5}' | '\u{3bc}' => spelling.push('u'),
                '²' => spelling.push('2'),
                '³' => spelling.push('3'),
                '⁻' => spelling.push('-'),
                '¹' => spelling.push('1'),
                '·' | '⋅' | '*' => spelling.push('.'),
                '^' => {}
                // A degree sign of another alphabet that is often taken for it.
                '\u{ba}' | '\u{2da}' => spelling.push('°'),
                _ if character.is_whitespace() || character == '\0' => {}
                _ => spelling.push(character),
            }
        }
        spelling
    }

    fn push(&mut self, character: char) {
        let len = character.len_utf8();
        if let Some(room) = self.bytes.get_mut(self.len..self.len + len) {
            character.encode_utf8(room);
            self.len += len;
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).expect("whole characters were pushed")
    }

    fn read(&self, is_g_gravity: bool) -> Option<Read> {
        let text = self.text();
        if let Some(degrees) = read_degrees(text) {
            return Some(degrees);
        }
        if is_g_gravity {
            let scale = factor_of(text.strip_suffix('g')?)?;
            return Some(Read {
                dimension: ACCELERATION,
                scale: scale * GRAVITY,
                offset: 0.0,
            });
        }
        // Some units have a slash in their name.
        let mut unit = match read_atom(text) {
            Some((dimension, scale)) => {
                return Some(Read {
                    dimension,
                    scale,
                    offset: 0.0,
                });
            }
            None => Read {
                dimension: NONE,
                scale: 1.0,
                offset: 0.0,
            },
        };
        let mut rest = text;
        let mut sign = 1;
        loop {
            let end = rest.find(['.', '/']).unwrap_or(rest.len());
            let (factor, power) = split_power(&rest[..end])?;
            let (dimension, scale) = read_atom(factor).filter(|_| !factor.is_empty())?;
            let power = sign * power;
            for (sum, exponent) in unit.dimension.iter_mut().zip(dimension) {
                *sum = sum.checked_add(exponent.checked_mul(power)?)?;
            }
            unit.scale *= scale.powi(power.into());
            match rest[end..].chars().next() {
                None => return Some(unit),
                // UCUM: what follows a slash is divided by, up to the next one.
                Some('/') => sign = -1,
                Some(_) => {}
            }
            rest = &rest[end + 1..];
        }
    }
}

fn read_degrees(text: &str) -> Option<Read> {
    let is_spelt = |spelling: &&str| {
        *spelling == text || (spelling.len() > 2 && spelling.eq_ignore_ascii_case(text))
    };
    let (_, scale, offset) = DEGREES
        .iter()
        .find(|(spellings, ..)| spellings.iter().any(is_spelt))?;
    Some(Read {
        dimension: KELVIN,
        scale: *scale,
        offset: *offset,
    })
}

/// `s2`, `s-2` or `s`: the factor and its power.
fn split_power(factor: &str) -> Option<(&str, i8)> {
    let digits = factor
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |last| {
            last + factor[last..].chars().next().map_or(1, char::len_utf8)
        });
    if digits == factor.len() || digits == 0 || factor.starts_with('[') {
        return Some((factor, 1));
    }
    let power: i8 = factor[digits..].parse().ok()?;
    match factor[..digits].strip_suffix('-') {
        Some(base) => Some((base, -power)),
        None => Some((&factor[..digits], power)),
    }
}

/// Dimension and value of one unit with its prefix.
fn read_atom(text: &str) -> Option<(Dimension, f64)> {
    let is_spelt = |spelling: &&str, text: &str| {
        *spelling == text || (spelling.len() >= 4 && spelling.eq_ignore_ascii_case(text))
    };
    let find = |text: &str| {
        ATOMS
            .iter()
            .find(|(spellings, ..)| spellings.iter().any(|s| is_spelt(s, text)))
    };
    if let Some((_, dimension, scale, _)) = find(text) {
        return Some((*dimension, *scale));
    }
    PREFIXES.iter().find_map(|(prefix, factor)| {
        let (_, dimension, scale, takes_prefix) = find(text.strip_prefix(prefix)?)?;
        takes_prefix.then_some((*dimension, factor * scale))
    })
}

fn factor_of(prefix: &str) -> Option<f64> {
    if prefix.is_empty() {
        return Some(1.0);
    }
    let (_, factor) = PREFIXES.iter().find(|(own, _)| *own == prefix)?;
    Some(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_unit_are_equal() {
        for spellings in [
            &[
                "degC",
                "°C",
                "C",
                "Cel",
                "℃",
                "ºC",
                "deg C",
                "Celsius",
                "degrees Celsius",
            ][..],
            &["degF", "°F", "F", "[degF]", "Fahrenheit"],
            &[
                "m/s2",
                "m/s²",
                "m/s^2",
                "m.s-2",
                "m·s⁻²",
                "m*s^-2",
                "m / s^2",
            ],
            &["µm", "μm", "um"],
            &["µS/cm", "μS/cm", "uS/cm"],
            &["l/min", "L/min", "lpm", "dm3/min"],
            &["m3/h", "m³/h", "m^3/h"],
            &["%", "%RH", "percent"],
            &["rpm", "1/min", "min-1", "r/min"],
            &["Ohm", "Ω", "\u{2126}"],
            &["kWh", "kW.h", "kW*h"],
            &["hPa", "mbar"],
            &["N.m", "N·m", "J"],
            &["V", "volts", "Volt"],
            &["widgets", "widgets "],
        ] {
            for from in spellings {
                for to in spellings {
                    assert_eq!(relate(from, to), Relation::Same, "{from} {to}");
                }
            }
        }
    }

    fn check(from: &str, to: &str, value: f64, expected: f64) {
        let Relation::Converts(linear) = relate(from, to) else {
            panic!("{from} to {to}: {:?}", relate(from, to));
        };
        let found = linear.apply(value);
        let tolerance = 1e-9 * expected.abs().max(1.0);
        assert!(
            (found - expected).abs() <= tolerance,
            "{from} to {to}: {found}"
        );
        let Relation::Converts(back) = relate(to, from) else {
            panic!("{to} to {from}");
        };
        assert!((back.apply(expected) - value).abs() <= 1e-9 * value.abs().max(1.0));
        let both = linear.then(&back).apply(value);
        assert!((both - value).abs() <= 1e-9 * value.abs().max(1.0));
    }

    #[test]
    fn a_unit_of_the_same_kind_is_converted() {
        check("°F", "degC", 212.0, 100.0);
        check("K", "°C", 273.15, 0.0);
        check("degF", "K", 32.0, 273.15);
        check("mbar", "bar", 1013.0, 1.013);
        check("kPa", "bar", 300.0, 3.0);
        check("psi", "kPa", 1.0, 6.894_757_293_168);
        check("mA", "A", 250.0, 0.25);
        check("mV", "V", 5.0, 0.005);
        check("g", "m/s2", 1.0, 9.806_65);
        check("mg", "m/s²", 1000.0, 9.806_65);
        check("mm/s2", "m/s2", 5.0, 0.005);
        check("mg", "g", 1000.0, 1.0);
        check("in/s", "mm/s", 1.0, 25.4);
        check("km/h", "m/s", 36.0, 10.0);
        check("l/min", "m3/h", 1000.0, 60.0);
        check("rpm", "Hz", 60.0, 1.0);
        check("kWh", "Wh", 1.0, 1000.0);
        check("ms", "s", 1.0, 1e-3);
        check("deg", "rad", 180.0, std::f64::consts::PI);
    }

    #[test]
    fn a_unit_of_another_kind_is_neither() {
        for (from, to) in [
            ("psi", "degC"),
            ("bar", "V"),
            ("VA", "W"),
            ("var", "VA"),
            ("widgets", "bar"),
            ("", "bar"),
            ("dB", "1"),
            ("m/s", "m/s2"),
            ("m/", "m"),
            ("//", "/"),
            ("m99", "m"),
        ] {
            assert_eq!(relate(from, to), Relation::Other, "{from} {to}");
        }
    }

    #[test]
    fn whatever_is_called_a_unit_is_read_without_a_panic() {
        for length in 0..4 {
            let alphabet = ["m", "/", ".", "-", "9", "é", "²", "[", "k", "°", "\0", " "];
            let mut places = vec![0; length];
            loop {
                let text: String = places.iter().map(|place| alphabet[*place]).collect();
                relate(&text, "m/s2");
                let Some(place) = places.iter().position(|place| *place + 1 < alphabet.len())
                else {
                    break;
                };
                places[..place].fill(0);
                places[place] += 1;
            }
        }
        relate(&"m".repeat(1000), &"é".repeat(1000));
    }
}
