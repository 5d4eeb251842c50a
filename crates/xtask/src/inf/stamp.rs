//! What stampinf does to an INX, with a date and a version that are given and not the hour of the day.

use crate::image::Arch;
use anyhow::{Result, ensure};

/// What DriverVer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Year, month, day.
    pub date: (i64, u32, u32),
    /// w.x.y.z.
    pub version: String,
}

impl Version {
    /// The version of the crate (major.minor.patch) and of a moment in seconds since 1970, UTC: its day is the date, and its seconds of
    /// that day, halved to fit, are the fourth number, so that packages of one day differ.
    pub fn new(release: &str, seconds: i64) -> Result<Self> {
        let mut parts = release
            .split('.')
            .map(|part| part.parse::<u16>().map_or(0, i64::from));
        let [major, minor, patch] = [(); 3].map(|()| parts.next().unwrap_or(0));
        let version = [major, minor, patch, seconds.rem_euclid(86_400) / 2];
        ensure!(
            version != [0; 4],
            "0.0.0.0 is not a version (INF DriverVer directive)"
        );
        Ok(Self {
            date: civil(seconds.div_euclid(86_400)),
            version: version.map(|part| part.to_string()).join("."),
        })
    }

    /// As the INF has it.
    pub fn directive(&self) -> String {
        let (year, month, day) = self.date;
        format!("{month:02}/{day:02}/{year:04},{}", self.version)
    }
}

/// Year, month and day of so many days since 1970-01-01, in the Gregorian calendar.
pub fn civil(days: i64) -> (i64, u32, u32) {
    // Counted from 1 March of year 0, so that leap days are last, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month as u32, day_of_month as u32)
}

/// Hour, minute and second of the day of a moment, seconds since 1970.
pub fn clock(seconds: i64) -> (u32, u32, u32) {
    let second = seconds.rem_euclid(86_400) as u32;
    (second / 3_600, second / 60 % 60, second % 60)
}

/// The INF for a processor. Lines end as Windows's do and keep their numbers.
pub fn stamp(inx: &str, arch: Arch, version: &Version) -> String {
    let mut inf = String::with_capacity(inx.len() + 512);
    for line in inx.lines() {
        let key = line.split('=').next().unwrap_or(line).trim();
        if key.eq_ignore_ascii_case("DriverVer") && line.contains('=') {
            let (before, _) = line.split_once('=').unwrap_or((line, ""));
            inf.push_str(&format!("{before}= {}", version.directive()));
        } else {
            inf.push_str(&line.replace("$ARCH$", arch.decoration()));
        }
        inf.push_str("\r\n");
    }
    inf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date() {
        for (seconds, date, fourth) in [
            (0, (1970, 1, 1), 0),
            (86_399, (1970, 1, 1), 43_199),
            (-1, (1969, 12, 31), 43_199),
            (951_782_400, (2000, 2, 29), 0),
            (951_868_800, (2000, 3, 1), 0),
            (951_868_802, (2000, 3, 1), 1),
            (1_709_164_800, (2024, 2, 29), 0),
            (4_107_542_400, (2100, 3, 1), 0),
        ] {
            let version = Version::new("1.2.3", seconds).unwrap();
            assert_eq!(version.date, date, "{seconds}");
            assert_eq!(version.version, format!("1.2.3.{fourth}"));
        }
        assert!(Version::new("0.0.0", 0).is_err());
    }

    #[test]
    fn architecture_and_version_are_filled_in_and_lines_stay() {
        let inx = "[Version]\nDriverVer =\n[Manufacturer]\n%M% = m, NT$ARCH$.10.0...20348\n";
        let version = Version::new("0.1.0", 1_700_000_000).unwrap();
        let inf = stamp(inx, Arch::Arm64, &version);
        assert_eq!(
            inf,
            "[Version]\r\nDriverVer = 11/14/2023,0.1.0.40000\r\n[Manufacturer]\r\n%M% = m, NTarm64.10.0...20348\r\n"
        );
    }
}
