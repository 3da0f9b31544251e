//! Amounts of storage, as Kubernetes writes quantities.

use std::cmp::Ordering;
use std::fmt::{self, Display};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most that the API server keeps of a quantity (apimachinery, `resource.ParseQuantity`).
const MOST: u64 = i64::MAX as u64;

/// Binary units, the largest first.
const UNITS: [&str; 6] = ["Ei", "Pi", "Ti", "Gi", "Mi", "Ki"];

/// Digits that count: more of them are beyond [`MOST`], or less than a byte.
const DIGITS: usize = 30;

/// An amount of storage: whole bytes, and the text in which somebody wrote it. Two are equal if their bytes are.
#[derive(Debug, Clone)]
pub struct StorageSize {
    text: String,
    bytes: u64,
}

/// A text that is no quantity, or one of nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no amount of storage: write a number greater than 0 with a unit, such as 10Gi or 500M"
)]
pub struct SizeError(String);

impl StorageSize {
    /// In bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As much more, in the largest unit in which it is a whole number.
    pub(super) fn plus(&self, more: &Self) -> Self {
        let bytes = self.bytes.saturating_add(more.bytes).min(MOST);
        let mut units = UNITS
            .iter()
            .map(|unit| (unit, 1_u64 << unit_of(unit).map_or(0, |(binary, _)| binary)));
        let unit = units.find(|(_, size)| bytes.is_multiple_of(*size));
        let (unit, size) = unit.unwrap_or((&"", 1));
        Self {
            text: format!("{}{unit}", bytes / size),
            bytes,
        }
    }
}

/// The grammar of `resource.Quantity` (apimachinery): a decimal number, and a binary or decimal unit or an
/// exponent. Parts of a byte are rounded up, as there.
impl FromStr for StorageSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.to_owned());
        let number = text.strip_prefix('+').unwrap_or(text);
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = number.split_at(end.unwrap_or(number.len()));
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + part.len() == 0 || part.contains('.') || number.len() > DIGITS {
            return Err(error());
        }
        let digits: u128 = format!("{whole}{part}").parse().map_err(|_| error())?;
        let (binary, exponent) = unit_of(unit).ok_or_else(error)?;
        // At most 30 digits, 20 places of an exponent and 60 bits: beyond what fits is beyond MOST as well.
        let exponent = exponent - i32::try_from(part.len()).map_err(|_| error())?;
        let scaled = digits.saturating_mul(1 << binary);
        let bytes = match exponent.try_into() {
            Ok(places) => scaled.saturating_mul(power_of_ten(places)),
            Err(_) => scaled.div_ceil(power_of_ten(exponent.unsigned_abs())),
        };
        if bytes == 0 {
            return Err(error());
        }
        Ok(Self {
            text: text.to_owned(),
            bytes: u64::try_from(bytes).unwrap_or(MOST).min(MOST),
        })
    }
}

fn power_of_ten(places: u32) -> u128 {
    10_u128.checked_pow(places).unwrap_or(u128::MAX)
}

/// The bits by which a unit shifts, and the power of ten by which it multiplies.
fn unit_of(unit: &str) -> Option<(u32, i32)> {
    Some(match unit {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            // As far as any number of bytes reaches.
            let places: i32 = digits.parse().ok()?;
            (0, places.clamp(-40, 20))
        }
    })
}

impl PartialEq for StorageSize {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for StorageSize {}

impl PartialOrd for StorageSize {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StorageSize {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl Display for StorageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for StorageSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for StorageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for StorageSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StorageSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": 30})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Option<u64> {
        text.parse::<StorageSize>().ok().map(|size| size.bytes())
    }

    #[test]
    fn it_is_what_the_api_server_takes_it_for() {
        for (text, is) in [
            ("10Gi", 10 << 30),
            ("0.5Gi", 1 << 29),
            (".5Gi", 1 << 29),
            ("5.Gi", 5 << 30),
            ("+1Ki", 1024),
            ("1e3", 1000),
            ("12E6", 12_000_000),
            ("15e-1", 2),
            ("1E", 1_000_000_000_000_000_000),
            ("500M", 500_000_000),
            ("1500m", 2),
            ("1n", 1),
            ("1.1Ki", 1127),
            ("128974848", 128_974_848),
            ("16Ei", MOST),
            ("99999999999999999999", MOST),
            ("1e99", MOST),
        ] {
            assert_eq!(bytes(text), Some(is), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_of_storage_is_told_with_what_would_be() {
        for text in [
            "", "0", "0Gi", "-1Gi", "10 Gi", "10gi", "10GB", "Gi", ".", "1.2.3", "1e", "e3", "ten",
        ] {
            let error = text.parse::<StorageSize>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(error.contains("10Gi"), "{error}");
        }
    }

    #[test]
    fn the_text_stays_as_somebody_wrote_it_and_sizes_compare_by_bytes() {
        let size = |text: &str| text.parse::<StorageSize>().unwrap();
        assert_eq!(size("1024Mi"), size("1Gi"));
        assert_eq!(size("1024Mi").to_string(), "1024Mi");
        assert!(size("1G") < size("1Gi"));
    }

    #[test]
    fn a_sum_is_written_as_somebody_would_write_it() {
        let plus = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| text.parse::<StorageSize>().unwrap());
            one.plus(&other).to_string()
        };
        assert_eq!(plus("10Gi", "1Gi"), "11Gi");
        assert_eq!(plus("512Mi", "0.5Gi"), "1Gi");
        assert_eq!(plus("1Gi", "1"), "1073741825");
        assert_eq!(plus("10G", "1Ki"), "9765626Ki");
        assert_eq!(plus("8Ei", "8Ei"), MOST.to_string());
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[0-9.+eEkKMGimn-]{0,40}") {
            _ = bytes(&text);
        }

        #[test]
        fn whole_bytes_are_themselves(number in 1..MOST) {
            prop_assert_eq!(bytes(&number.to_string()), Some(number));
        }
    }
}
