//! A layered layout: who uses something stands above it.
//!
//! ```text
//! links ─▶ layers (longest way from a root) ─▶ bends where a link passes a layer ─▶ order in each layer (few crossings)
//!       ─▶ places (near what they are linked with) ─▶ routes
//! ```
//!
//! Boxes of one layer do not overlap. Every link goes downwards, but those that close a circle, which no graph of nodes has.

/// Space between the boxes of a layer.
const GAP_ACROSS: f64 = 24.0;
/// Space between layers, in which the words at the edges stand.
const GAP_DOWN: f64 = 54.0;
/// Width that a passing link takes in a layer.
const BEND: f64 = 12.0;
/// How often layers are put in order, down and up again.
const SWEEPS: usize = 12;

/// A box: its middle across, its top, and its size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Place {
    pub(super) middle: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Where everything stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    /// The boxes, in the order of their sizes.
    pub(super) places: Vec<Place>,
    /// The corners of each link from its user to what is used.
    pub(super) routes: Vec<Vec<(f64, f64)>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// What takes a place: a box, or where a link passes a layer.
struct Spot {
    layer: usize,
    place: Place,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out boxes of these sizes (width, height) and the links between them (user, used).
pub(super) fn layered(sizes: &[(f64, f64)], links: &[(usize, usize)]) -> Layout {
    let layers = layers(sizes.len(), links);
    let mut spots: Vec<Spot> = sizes
        .iter()
        .zip(&layers)
        .map(|(&(width, height), &layer)| Spot {
            layer,
            place: Place { width, height, ..Place::default() },
            above: Vec::new(),
            below: Vec::new(),
        })
        .collect();
    let chains: Vec<Vec<usize>> = links.iter().map(|&link| chain(&mut spots, link)).collect();
    let mut rows = rows(&spots);
    for _ in 0..SWEEPS {
        put_in_order(&mut rows, &mut spots, |spot| &spot.above);
        rows.reverse();
        put_in_order(&mut rows, &mut spots, |spot| &spot.below);
        rows.reverse();
    }
    for _ in 0..SWEEPS {
        rows.iter().for_each(|row| draw_near(row, &mut spots));
        rows.iter().rev().for_each(|row| draw_near(row, &mut spots));
    }
    finish(sizes.len(), &rows, spots, &chains)
}

/// The layer of each box: one below the lowest of its users. Those in circles count as roots.
fn layers(boxes: usize, links: &[(usize, usize)]) -> Vec<usize> {
    let mut users = vec![0_usize; boxes];
    let mut used: Vec<Vec<usize>> = vec![Vec::new(); boxes];
    for &(from, to) in links.iter().filter(|(from, to)| from != to) {
        if let (Some(users), Some(used)) = (users.get_mut(to), used.get_mut(from)) {
            *users += 1;
            used.push(to);
        }
    }
    let mut layers = vec![0; boxes];
    let mut free: Vec<usize> =
        users.iter().enumerate().filter(|(_, users)| **users == 0).map(|(index, _)| index).collect();
    while let Some(index) = free.pop() {
        let below = layers.get(index).copied().unwrap_or(0) + 1;
        for &to in used.get(index).into_iter().flatten() {
            if let (Some(layer), Some(users)) = (layers.get_mut(to), users.get_mut(to)) {
                *layer = below.max(*layer);
                *users -= 1;
                if *users == 0 {
                    free.push(to);
                }
            }
        }
    }
    layers
}

/// The spots of a link from its user to what is used: new ones where it passes a layer.
fn chain(spots: &mut Vec<Spot>, (from, to): (usize, usize)) -> Vec<usize> {
    let layer = |spots: &Vec<Spot>, index: usize| spots.get(index).map_or(0, |spot| spot.layer);
    let (begin, end) = (layer(spots, from), layer(spots, to));
    let mut chain = vec![from];
    for layer in begin + 1..end {
        let place = Place { width: BEND, ..Place::default() };
        chain.push(spots.len());
        spots.push(Spot { layer, place, above: Vec::new(), below: Vec::new() });
    }
    chain.push(to);
    if begin < end {
        for pair in chain.windows(2) {
            if let &[above, below] = pair {
                spots.get_mut(above).into_iter().for_each(|spot| spot.below.push(below));
                spots.get_mut(below).into_iter().for_each(|spot| spot.above.push(above));
            }
        }
    }
    chain
}

/// The spots of each layer, in the order in which they are met from the roots on.
fn rows(spots: &[Spot]) -> Vec<Vec<usize>> {
    let count = spots.iter().map(|spot| spot.layer + 1).max().unwrap_or(0);
    let mut rows = vec![Vec::new(); count];
    let mut met = vec![false; spots.len()];
    let roots = (0..spots.len()).filter(|&index| spots.get(index).is_some_and(|spot| spot.above.is_empty()));
    let mut todo: Vec<usize> = roots.collect();
    todo.reverse();
    while let Some(index) = todo.pop() {
        let Some(spot) = spots.get(index) else { continue };
        if met.get_mut(index).is_none_or(|met| std::mem::replace(met, true)) {
            continue;
        }
        rows.get_mut(spot.layer).into_iter().for_each(|row| row.push(index));
        todo.extend(spot.below.iter().rev());
    }
    rows
}

/// Puts each row in the order of the middles of what its spots are linked with, which stand in the row before.
fn put_in_order(rows: &mut [Vec<usize>], spots: &mut [Spot], linked: fn(&Spot) -> &Vec<usize>) {
    for row in rows {
        let key = |index: &usize| {
            let spot = spots.get(*index)?;
            mean(linked(spot).iter().filter_map(|other| Some(spots.get(*other)?.place.middle)))
        };
        let mut keyed: Vec<_> = row
            .iter()
            .map(|index| {
                let here = spots.get(*index).map_or(0.0, |spot| spot.place.middle);
                (key(index).unwrap_or(here), *index)
            })
            .collect();
        keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        *row = keyed.into_iter().map(|(_, index)| index).collect();
        let mut left = 0.0;
        for index in row.iter() {
            if let Some(spot) = spots.get_mut(*index) {
                spot.place.middle = left + spot.place.width / 2.0;
                left += spot.place.width + GAP_ACROSS;
            }
        }
    }
}

/// Moves the spots of a row towards the middle of what they are linked with, as far as they do not overlap.
fn draw_near(row: &[usize], spots: &mut [Spot]) {
    let wanted: Vec<f64> = row
        .iter()
        .map(|index| {
            let Some(spot) = spots.get(*index) else { return 0.0 };
            let linked = spot.above.iter().chain(&spot.below);
            mean(linked.filter_map(|other| Some(spots.get(*other)?.place.middle)))
                .unwrap_or(spot.place.middle)
        })
        .collect();
    // From the left each stands as near as the one before lets it; the overshoot is then shared by all.
    let mut edge = f64::NEG_INFINITY;
    let mut overshoot = 0.0;
    for (index, wanted) in row.iter().zip(&wanted) {
        let Some(spot) = spots.get_mut(*index) else { continue };
        spot.place.middle = wanted.max(edge + spot.place.width / 2.0);
        edge = spot.place.middle + spot.place.width / 2.0 + GAP_ACROSS;
        overshoot += spot.place.middle - wanted;
    }
    let share = overshoot / (row.len().max(1)) as f64;
    for index in row {
        spots.get_mut(*index).into_iter().for_each(|spot| spot.place.middle -= share);
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Sets the heights, moves all to where the drawing begins, and follows the links.
fn finish(boxes: usize, rows: &[Vec<usize>], mut spots: Vec<Spot>, chains: &[Vec<usize>]) -> Layout {
    let left =
        spots.iter().map(|spot| spot.place.middle - spot.place.width / 2.0).fold(f64::INFINITY, f64::min);
    let mut top = 0.0;
    for row in rows {
        let tallest = row.iter().filter_map(|index| spots.get(*index)).map(|spot| spot.place.height);
        let tallest = tallest.fold(0.0, f64::max);
        for index in row {
            if let Some(spot) = spots.get_mut(*index) {
                spot.place.top = top;
                spot.place.middle -= left;
                if *index >= boxes {
                    spot.place.height = tallest;
                }
            }
        }
        top += tallest + GAP_DOWN;
    }
    let routes = chains.iter().map(|chain| route(chain, &spots)).collect();
    let places: Vec<Place> = spots.iter().map(|spot| spot.place).collect();
    let width = places.iter().map(|place| place.middle + place.width / 2.0).fold(0.0, f64::max);
    let height = places.iter().map(|place| place.top + place.height).fold(0.0, f64::max);
    Layout { places: places.into_iter().take(boxes).collect(), routes, width, height }
}

/// Out of the box above at its lower side, straight through each layer, into the box below at its upper side.
fn route(chain: &[usize], spots: &[Spot]) -> Vec<(f64, f64)> {
    let last = chain.len().saturating_sub(1);
    let mut route = Vec::new();
    for (at, index) in chain.iter().enumerate() {
        let Some(Place { middle, top, height, .. }) = spots.get(*index).map(|spot| spot.place) else {
            continue;
        };
        if at > 0 {
            route.push((middle, top));
        }
        if at < last {
            route.push((middle, top + height));
        }
    }
    route
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(a: &Place, b: &Place) -> bool {
        let across = (a.middle - b.middle).abs() < (a.width + b.width) / 2.0;
        let down = a.top < b.top + b.height && b.top < a.top + a.height;
        across && down
    }

    #[test]
    fn no_two_boxes_overlap_and_each_link_goes_down_from_its_user() {
        // Two users of one top, a chain of backing images with their files, and a node that passes three layers.
        let links = [(0, 2), (1, 2), (2, 3), (2, 4), (4, 5), (4, 6), (6, 7), (0, 7)];
        let sizes: Vec<_> = (0..9).map(|index| (80.0 + 20.0 * f64::from(index), 40.0)).collect();
        let layout = layered(&sizes, &links);
        assert_eq!((layout.places.len(), layout.routes.len()), (sizes.len(), links.len()));
        for (index, place) in layout.places.iter().enumerate() {
            assert!(place.middle - place.width / 2.0 >= -1e-6 && place.top >= 0.0, "{place:?}");
            for other in layout.places.iter().skip(index + 1) {
                assert!(!overlap(place, other), "{place:?} {other:?}");
            }
        }
        for ((from, to), route) in links.iter().zip(&layout.routes) {
            let (from, to) = (layout.places.get(*from).unwrap(), layout.places.get(*to).unwrap());
            assert!(from.top < to.top);
            assert_eq!(route.first(), Some(&(from.middle, from.top + from.height)));
            assert_eq!(route.last(), Some(&(to.middle, to.top)));
        }
    }

    #[test]
    fn circles_and_what_is_not_there_end_in_a_layout_too() {
        let layout = layered(&[(10.0, 10.0), (10.0, 10.0), (10.0, 10.0)], &[(0, 1), (1, 0), (2, 2), (2, 9)]);
        assert_eq!(layout.places.len(), 3);
        assert_eq!(layered(&[], &[]).places.len(), 0);
    }
}
