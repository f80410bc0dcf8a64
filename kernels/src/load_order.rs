//! In which order modules can be inserted, worked out from the modules themselves: packages carry no `modules.dep`.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use crate::modinfo::{Modinfo, ModinfoError, normalise};
use crate::tree::KernelTree;

/// An order in which modules can be inserted, and what stands in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOrder {
    /// The modules to insert, each after all that it depends on.
    pub modules: Vec<Module>,
    /// Modules that were asked for, or depended on, and are part of vmlinux.
    pub builtin: Vec<String>,
    /// Modules that were asked for, or depended on, and are nowhere.
    pub missing: Vec<Missing>,
    /// Dependencies that close a circle, as (module, what it depends on); the order ignores them.
    pub circular: Vec<(String, String)>,
}

/// A module and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// The uncompressed file.
    pub path: PathBuf,
}

/// A module that is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// The module that depends on it; none if it was asked for.
    pub wanted_by: Option<String>,
}

/// Why a module's dependencies are not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadOrderError {
    /// The file could not be read.
    #[error("failed to read module {}", path.display())]
    Read {
        /// The module.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a module.
    #[error("{} is not a module", path.display())]
    NotAModule {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ModinfoError,
    },
}

/// Works out an order for `roots` and all that they depend on.
///
/// The order for some roots begins with the order for the first of them alone: roots appended later only append modules.
///
/// # Errors
///
/// A module cannot be read.
pub fn load_order<'a>(
    tree: &KernelTree,
    roots: impl IntoIterator<Item = &'a str>,
) -> Result<LoadOrder, LoadOrderError> {
    let found = |name: &str| -> Result<Found, LoadOrderError> {
        let Some(path) = tree.modules().get(name) else {
            return Ok(if tree.builtin().contains(name) {
                Found::Builtin
            } else {
                Found::Nowhere
            });
        };
        let bytes = std::fs::read(path).map_err(|source| LoadOrderError::Read {
            path: path.clone(),
            source,
        })?;
        let info = Modinfo::of_module(&bytes).map_err(|source| LoadOrderError::NotAModule {
            path: path.clone(),
            source,
        })?;
        Ok(Found::Module(info))
    };
    let Walk {
        order,
        builtin,
        missing,
        circular,
        ..
    } = walk(roots, found)?;
    let module = |name: String| Module {
        path: tree.modules()[&name].clone(),
        name,
    };
    Ok(LoadOrder {
        modules: order.into_iter().map(module).collect(),
        builtin,
        missing,
        circular,
    })
}

/// Where a module is.
pub(crate) enum Found {
    Module(Modinfo),
    Builtin,
    Nowhere,
}

/// What [`walk`] has found out.
#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) order: Vec<String>,
    builtin: Vec<String>,
    missing: Vec<Missing>,
    circular: Vec<(String, String)>,
    seen: HashMap<String, Progress>,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// On the way from a root to the module at hand.
    Open,
    Done,
}

enum Step {
    Enter {
        name: String,
        wanted_by: Option<String>,
        optional: bool,
    },
    Leave {
        name: String,
    },
}

/// Visits `roots` and all that they depend on, dependencies first. `find` is called once for each name.
pub(crate) fn walk<'a, E>(
    roots: impl IntoIterator<Item = &'a str>,
    mut find: impl FnMut(&str) -> Result<Found, E>,
) -> Result<Walk, E> {
    let mut walk = Walk::default();
    for root in roots {
        walk.steps.push(Step::Enter {
            name: normalise(root),
            wanted_by: None,
            optional: false,
        });
        while let Some(step) = walk.steps.pop() {
            match step {
                Step::Leave { name } => {
                    walk.seen.insert(name.clone(), Progress::Done);
                    walk.order.push(name);
                }
                Step::Enter {
                    name,
                    wanted_by,
                    optional,
                } => walk.enter(name, wanted_by, optional, &mut find)?,
            }
        }
    }
    Ok(walk)
}

impl Walk {
    fn enter<E>(
        &mut self,
        name: String,
        wanted_by: Option<String>,
        optional: bool,
        find: &mut impl FnMut(&str) -> Result<Found, E>,
    ) -> Result<(), E> {
        match (self.seen.get(&name), wanted_by) {
            (Some(Progress::Open), Some(by)) => self.circular.push((by, name)),
            (Some(_), _) => {}
            (None, wanted_by) => match find(&name)? {
                Found::Module(info) => self.descend(name, info),
                Found::Builtin => {
                    self.seen.insert(name.clone(), Progress::Done);
                    self.builtin.push(name);
                }
                // What may be absent is looked for again if something else must have it.
                Found::Nowhere if optional => {}
                Found::Nowhere => {
                    self.seen.insert(name.clone(), Progress::Done);
                    self.missing.push(Missing { name, wanted_by });
                }
            },
        }
        Ok(())
    }

    fn descend(&mut self, name: String, info: Modinfo) {
        let Modinfo {
            depends,
            soft_depends_before,
            name: _,
            aliases: _,
        } = info;
        self.seen.insert(name.clone(), Progress::Open);
        self.steps.push(Step::Leave { name: name.clone() });
        // The last step pushed is the first one taken.
        for (depends, optional) in [(depends, false), (soft_depends_before, true)] {
            let enter = |depend| Step::Enter {
                name: depend,
                wanted_by: Some(name.clone()),
                optional,
            };
            self.steps.extend(depends.into_iter().rev().map(enter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modinfo::tests::module;
    use crate::tree::place;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::convert::Infallible;

    /// Walks modules given as `name: hard dependencies; soft dependencies`.
    fn walk_of(modules: &[(&str, &str, &str)], roots: &[&str]) -> Walk {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let find = |wanted: &str| -> Result<Found, Infallible> {
            Ok(match modules.iter().find(|(name, ..)| *name == wanted) {
                Some((_, "builtin", _)) => Found::Builtin,
                Some((_, depends, soft)) => Found::Module(Modinfo {
                    depends: names(depends),
                    soft_depends_before: names(soft),
                    ..Modinfo::default()
                }),
                None => Found::Nowhere,
            })
        };
        walk(roots.iter().copied(), find).unwrap()
    }

    /// Check that modules come after what they depend on, once each, and that names match whatever the dashes.
    #[rstest]
    #[case::chain(&[("a", "b", ""), ("b", "c", ""), ("c", "", "")], &["a"], "c b a")]
    #[case::diamond(&[("a", "b c", ""), ("b", "d", ""), ("c", "d", ""), ("d", "", "")], &["a"], "d b c a")]
    #[case::two_roots(&[("a", "", ""), ("b", "a", "")], &["a", "b", "a"], "a b")]
    #[case::soft(&[("a", "c", "b nowhere"), ("b", "", ""), ("c", "", "")], &["a"], "b c a")]
    #[case::dashes(&[("x_y", "", "")], &["x-y"], "x_y")]
    fn walk_puts_dependencies_first(
        #[case] modules: &[(&str, &str, &str)],
        #[case] roots: &[&str],
        #[case] expected: &str,
    ) {
        let walk = walk_of(modules, roots);
        assert_eq!(walk.order.join(" "), expected);
        assert_eq!((walk.missing, walk.circular), (Vec::new(), Vec::new()));
    }

    /// Check that a circle is told, and does not keep its modules from being listed.
    #[test]
    fn walk_of_circle_tells_it_and_ends() {
        let walk = walk_of(&[("a", "b", ""), ("b", "c", ""), ("c", "a", "")], &["a"]);
        assert_eq!(walk.order, ["c", "b", "a"]);
        assert_eq!(walk.circular, [("c".to_owned(), "a".to_owned())]);
    }

    /// Check that built-in and absent modules are told apart, and that an absent dependency names who wants it.
    #[test]
    fn walk_tells_builtin_from_missing() {
        let walk = walk_of(
            &[("a", "b gone", "gone"), ("b", "builtin", "")],
            &["a", "b", "lost"],
        );
        let missing = |name: &str, by: Option<&str>| Missing {
            name: name.to_owned(),
            wanted_by: by.map(str::to_owned),
        };
        assert_eq!(walk.order, ["a"]);
        assert_eq!(walk.builtin, ["b"]);
        assert_eq!(
            walk.missing,
            [missing("gone", Some("a")), missing("lost", None)]
        );
    }

    /// Check the order against files, and that a file that is no module is named.
    #[test]
    fn load_order_of_tree_reads_the_modules() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join(place::MODULES);
        std::fs::create_dir(&modules).unwrap();
        std::fs::write(
            modules.join("bluetooth.ko"),
            module("bluetooth", "ecdh-generic,crc16"),
        )
        .unwrap();
        std::fs::write(modules.join("ecdh_generic.ko"), module("ecdh_generic", "")).unwrap();
        std::fs::write(dir.path().join(place::BUILTIN), "kernel/lib/crc16.ko\n").unwrap();
        KernelTree::describe(dir.path(), "1").unwrap();
        let tree = KernelTree::open(dir.path()).unwrap();

        let order = load_order(&tree, ["bluetooth"]).unwrap();
        let names: Vec<&str> = order
            .modules
            .iter()
            .map(|module| module.name.as_str())
            .collect();
        assert_eq!(
            (names, order.builtin),
            (vec!["ecdh_generic", "bluetooth"], vec!["crc16".to_owned()])
        );

        std::fs::write(modules.join("ecdh_generic.ko"), "damaged").unwrap();
        let message = load_order(&tree, ["bluetooth"]).unwrap_err().to_string();
        assert!(
            message.ends_with("ecdh_generic.ko is not a module"),
            "{message}"
        );
    }

    proptest! {
        /// Check that in any graph without circles, and up to those told in one with circles, dependencies come first, and that more
        /// roots only append.
        #[test]
        fn walk_of_any_graph_puts_dependencies_first(edges in proptest::collection::vec((0u8..12, 0u8..12), 0..40)) {
            let depends = |from: &str| -> Vec<String> {
                edges.iter().filter(|(a, _)| a.to_string() == from).map(|(_, b)| b.to_string()).collect()
            };
            let find = |name: &str| -> Result<Found, Infallible> {
                Ok(Found::Module(Modinfo { depends: depends(name), ..Modinfo::default() }))
            };
            let walked = walk(["0", "1"], find).unwrap();
            let at = |name: &str| walked.order.iter().position(|module| module == name).unwrap();
            for module in &walked.order {
                for depend in depends(module) {
                    let told = walked.circular.contains(&(module.clone(), depend.clone()));
                    prop_assert!(told || at(&depend) < at(module));
                }
            }
            prop_assert!(walked.order.starts_with(&walk(["0"], find).unwrap().order));
        }
    }
}
