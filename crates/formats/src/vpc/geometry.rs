//! How large a disk is: its geometry, or the size that its footer states.
//!
//! Virtual PC counts in cylinders, heads and sectors: a disk of its own, and one made here so that it can be used there,
//! is as large as its geometry says. Everybody else takes the stated size. A geometry that is the largest there can be
//! stands for disks that have none.
//! Specification: VHD 1.0, appendix "CHS Calculation".
use super::footer::Footer;
use api::VpcSizeCalculation;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// The largest disk there can be, in sectors: 2,040 GiB.
pub(super) const MOST_SECTORS: u64 = 0xff00_0000;

/// Cylinders, heads, and sectors of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub cylinders: u16,
    pub heads: u8,
    pub sectors: u8,
}

impl Geometry {
    /// That of disks which are too large for one, or whose size is to be the stated one.
    pub const LARGEST: Self = Self { cylinders: 65535, heads: 16, sectors: 255 };

    /// The geometry for so many sectors: it has as many, or fewer.
    pub fn of(sectors: u64) -> Self {
        let sectors = sectors.min(Self::LARGEST.total());
        let large = 65535 * 16 * 63;
        if sectors == 0 {
            return Self { cylinders: 0, heads: 0, sectors: 0 };
        }
        let (track, heads, tracks) = if sectors >= large {
            (255, 16, sectors / 255)
        } else {
            let tracks = sectors / 17;
            let heads = tracks.div_ceil(1024).max(4);
            if tracks < heads * 1024 && heads <= 16 {
                (17, heads, tracks)
            } else if sectors / 31 < 16 * 1024 {
                (31, 16, sectors / 31)
            } else {
                (63, 16, sectors / 63)
            }
        };
        Self { cylinders: (tracks / heads) as u16, heads: heads as u8, sectors: track as u8 }
    }

    /// The smallest geometry that has at least so many sectors; the largest one, where there is none.
    pub fn at_least(sectors: u64) -> Self {
        // Each step of a cylinder is less than this many sectors.
        let steps = (0..=u64::from(Self::LARGEST.heads) * 255 * 2).map(|more| Self::of(sectors + more));
        steps.into_iter().find(|geometry| geometry.total() >= sectors).unwrap_or(Self::LARGEST)
    }

    /// Sectors of the disk.
    pub fn total(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }
}

/// Size and geometry of a new disk, in sectors. `exact`: as large as it is asked for.
pub(super) fn of_new_disk(bytes: u64, exact: bool) -> Option<(u64, Geometry)> {
    let asked = bytes.div_ceil(SECTOR);
    let geometry = if exact { Geometry::LARGEST } else { Geometry::at_least(asked) };
    let sectors = if geometry == Geometry::LARGEST { asked } else { geometry.total() };
    (sectors <= MOST_SECTORS).then_some((sectors, geometry))
}

/// Sectors of the disk that a footer describes. `by`: what decides, where not the program that made the image.
pub(super) fn sectors_of(footer: &Footer, by: Option<VpcSizeCalculation>) -> u64 {
    let counts = |creator: &[u8; 4]| creator == b"vpc " || creator == b"qemu";
    let chs = by.map_or(counts(&footer.creator), |by| by == VpcSizeCalculation::Chs);
    if chs && footer.geometry != Geometry::LARGEST {
        return footer.geometry.total();
    }
    footer.current_size / SECTOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_disks_are_as_large_as_virtual_pc_can_count() {
        for (asked, size) in [
            (0, 0),
            (511, 34816),
            (1 << 20, 1_079_296),
            (10 << 20, 10_514_432),
            (67 << 20, 70_258_688),
            (1_000_000_512, 1_000_194_048),
            (1 << 30, 1_073_995_776),
            (4095 << 20, 4_293_918_720),
            (33_822_351_360, 33_822_351_360),
            (126 << 30, 135_291_494_400),
            (127 << 30, 136_365_219_840),
            (128 << 30, 128 << 30),
            (2040 << 30, 2040 << 30),
        ] {
            let (sectors, _) = of_new_disk(asked, false).unwrap();
            assert_eq!(sectors * SECTOR, size, "{asked}");
            let (exact, geometry) = of_new_disk(asked, true).unwrap();
            assert_eq!((exact, geometry), (asked.div_ceil(SECTOR), Geometry::LARGEST));
        }
        assert_eq!(of_new_disk((2040 << 30) + 1, true), None);
    }
}
