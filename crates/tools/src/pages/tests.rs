//! That the pages and scripts have all that `--help` has.

use super::*;

#[test]
fn every_command_has_a_page_and_every_flag_is_in_all_of_them() {
    let pages = all();
    let names: Vec<_> = pages.iter().map(file_name).collect();
    for name in
        ["cairn", "cairn-img", "cairn-img-convert", "cairn-io", "cairn-nbd", "cairn-daemon", "cairn-top"]
    {
        assert!(names.iter().any(|known| known == name), "{name} of {names:?}");
    }
    let (bash, zsh, fish) = (bash::script(&pages), zsh::script(&pages), fish::script(&pages));
    for page in &pages {
        let roff = roff::page(page, &pages);
        assert!(page.flags.len() > 2 || page.name == "cairn", "{}", page.name);
        for name in page.flags.iter().flat_map(|flag| flag.names.split(' ')) {
            assert!(roff.contains(&name.replace('-', "\\-")), "{name} in the page of {}", page.name);
            assert!(bash.contains(name) && zsh.contains(name), "{name} of {}", page.name);
            assert!(fish.contains(&format!(" {}", name.trim_start_matches('-'))), "{name} of {}", page.name);
        }
    }
}

#[test]
fn values_are_known_by_what_help_calls_them() {
    use values::Values;
    assert_eq!(Values::of("human|json"), Values::Words("human|json"));
    assert_eq!(Values::of("FMT"), Values::Format);
    assert_eq!(Values::of("unix:PATH|tcp:HOST:PORT"), Values::Other);
}
