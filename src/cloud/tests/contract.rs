//! One contract, every store: each behaviour below is a test of its own on each store. Where a
//! store differs from others, its [`world::Traits`] say so and the behaviour holds it to that.
//!
//! Beside the behaviours, every real store is asked what users care about ([`observed::ROWS`]);
//! the answers are the table in `docs/stores.md`, and a test each. `HUBSTORAGE_BLESS=1` writes it.
//!
//! A real store takes part when its variables are set: `HUBSTORAGE_MINIO_ENDPOINT`,
//! `…_MANAGE_KEY`, `…_MANAGE_SECRET`, `…_VEND_KEY`, `…_VEND_SECRET`, and the like for `RGW` and
//! `MOTO`, as `e2e test contract` sets them. Without them its tests are ignored, or fail where
//! `HUBSTORAGE_REQUIRE=all` says that nothing may be left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "contract/buckets.rs"]
mod buckets;
#[path = "contract/contents.rs"]
mod contents;
#[path = "contract/memory.rs"]
mod memory;
#[path = "contract/observed/mod.rs"]
mod observed;
#[path = "contract/page.rs"]
mod page;
#[path = "contract/probing.rs"]
mod probing;
#[path = "contract/roles.rs"]
mod roles;
#[path = "contract/rules.rs"]
mod rules;
#[path = "contract/s3.rs"]
mod s3;
#[path = "contract/sdk.rs"]
mod sdk;
#[path = "contract/settings.rs"]
mod settings;
#[path = "contract/stores.rs"]
mod stores;
#[path = "contract/trouble.rs"]
mod trouble;
#[path = "contract/vending.rs"]
mod vending;
#[path = "contract/world.rs"]
mod world;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use hubstorage_cloud::memory::Behaviour;
use libtest_mimic::{Arguments, Failed, Trial};
use observed::ROWS;
use s3::{S3World, Settings};
use stores::Store;
use tokio::runtime::Runtime;
use world::World;

/// One behaviour of the contract.
type Check = for<'a> fn(&'a dyn World) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Names each behaviour by its function.
macro_rules! contract {
    ($($module:ident::$behaviour:ident,)*) => {
        &[$((stringify!($behaviour), |world| Box::pin($module::$behaviour(world)))),*]
    };
}

const CONTRACT: &[(&str, Check)] = contract![
    buckets::a_bucket_that_is_created_exists_without_rules,
    buckets::a_bucket_created_a_second_time_is_the_same_one,
    buckets::tags_are_set_and_tags_of_others_survive,
    buckets::tags_set_at_creation_are_there_where_the_store_says_so,
    buckets::a_bucket_of_somebody_else_is_named_as_such,
    buckets::a_bucket_that_is_not_there_is_told_as_such_by_every_call,
    buckets::a_name_that_the_store_does_not_take_is_refused,
    buckets::a_new_bucket_is_unclaimed_of_now_and_empty,
    buckets::an_object_makes_a_bucket_not_empty,
    buckets::a_version_left_behind_makes_a_bucket_not_empty,
    contents::a_new_bucket_holds_nothing,
    contents::what_a_bucket_holds_is_counted_and_one_key_named,
    contents::a_bucket_that_holds_something_is_not_deleted,
    contents::an_empty_bucket_is_deleted_and_then_is_gone,
    contents::versions_markers_and_uploads_are_deleted_for_good,
    contents::keys_with_odd_characters_are_named_and_deleted,
    contents::a_bucket_of_more_than_a_batch_is_emptied_batch_by_batch,
    contents::what_is_locked_is_named_and_stays_and_the_rest_goes,
    rules::rules_read_back_as_declared,
    rules::rules_set_twice_stay_the_same,
    rules::rules_of_others_survive_a_change_of_ours,
    rules::rules_that_are_no_longer_declared_are_removed,
    rules::the_last_rule_can_be_removed,
    rules::a_rule_removed_by_hand_is_seen_and_put_back,
    rules::a_rule_changed_by_hand_is_seen,
    rules::an_effect_that_the_store_cannot_do_is_named_and_the_others_are_in_force,
    roles::a_role_reads_back_as_declared_and_is_made_once,
    roles::what_was_changed_in_a_role_is_seen_and_put_back,
    roles::a_role_that_is_deleted_is_gone_and_another_one_of_its_name_is_told_from_it,
    roles::a_session_of_a_role_is_held_to_the_role_and_to_its_own_policy,
    settings::a_setting_that_the_store_can_do_is_set_and_found,
    settings::a_setting_that_the_store_cannot_do_is_named_when_it_is_set_at_the_latest,
    settings::versioning_that_was_changed_is_seen,
    settings::a_new_bucket_has_no_policy,
    settings::an_access_list_tells_who_else_gets_in,
    settings::statements_of_ours_come_and_go_beside_those_of_others,
    settings::the_last_statement_can_be_removed,
    settings::a_bucket_keeps_its_time_of_creation,
    trouble::keys_that_work_have_access_and_belong_to_one_account,
    trouble::keys_that_the_store_does_not_know_are_told,
    trouble::a_secret_that_does_not_fit_its_key_is_told,
    trouble::vending_keys_that_do_not_fit_are_told,
    trouble::a_closed_port_is_unreachable,
    vending::a_session_does_everything_under_its_own_prefix,
    vending::a_session_is_refused_under_every_other_prefix,
    vending::a_session_learns_of_absent_keys_only_under_its_own_prefix,
    vending::a_session_for_bob_does_not_list_bobby,
    vending::a_prefix_made_of_a_hostile_name_holds,
    vending::a_session_for_one_bucket_is_refused_in_another,
    vending::a_read_only_session_does_not_write,
    vending::a_session_reaches_what_is_shared_as_far_as_it_is,
    vending::a_session_ends_in_900_seconds_or_later,
    vending::a_policy_with_several_buckets_reaches_each_as_granted,
    vending::a_policy_as_long_as_there_may_be_is_taken_and_holds,
    probing::the_probe_finds_out_whether_a_session_is_held_to_its_policy,
    probing::a_session_that_also_reaches_the_other_prefix_leaks,
    probing::what_lies_under_the_canaries_prefixes_does_not_change_the_verdict,
    probing::a_session_without_its_own_prefix_proves_nothing,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = in_memory();
    for store in stores::ALL {
        trials.extend(on(store));
    }
    trials.push(
        Trial::test("the page has the rows and columns of the suite", || {
            if page::is_in_shape() || page::is_blessed() {
                return Ok(());
            }
            Err(format!(
                "docs/stores.md has others; {}=1 writes it anew",
                page::BLESS
            )
            .into())
        })
        .with_kind("page"),
    );
    let conclusion = libtest_mimic::run(&arguments, trials);
    if page::is_blessed() {
        page::bless();
    }
    conclusion.exit_code()
}

/// The contract on the store in memory, in each way in which it can behave.
fn in_memory() -> Vec<Trial> {
    let taken_only = Behaviour {
        enforces_session_policies: false,
        ..Behaviour::aws()
    };
    let behaviours = [
        ("memory as AWS", Behaviour::aws()),
        ("memory as AWS in us-east-1", Behaviour::aws_us_east_1()),
        ("memory as MinIO", Behaviour::minio()),
        ("memory as moto", taken_only),
    ];
    let mut trials = Vec::new();
    for (name, behaviour) in behaviours {
        trials.extend(CONTRACT.iter().map(|(check, run)| {
            let behaviour = behaviour.clone();
            Trial::test(sentence(check), move || {
                on_a_runtime(memory::Memory::new(behaviour), *run)
            })
            .with_kind(name)
        }));
    }
    trials
}

/// The contract on a real store, and what it is asked beside.
fn on(store: &'static Store) -> Vec<Trial> {
    let settings = Settings::from_env(store);
    let is_required = std::env::var("HUBSTORAGE_REQUIRE").is_ok_and(|tiers| tiers == "all");
    let is_ignored = settings.is_err() && !is_required;
    let world = move || match settings.clone() {
        Ok(settings) => Ok(S3World::new(settings)),
        Err(missing) => Err(Failed::from(format!("{missing} is not set"))),
    };
    let behaviours = CONTRACT.iter().map(|(check, run)| {
        let world = world.clone();
        Trial::test(sentence(check), move || on_a_runtime(world()?, *run))
    });
    let asked = ROWS.iter().map(|row| {
        let world = world.clone();
        Trial::test(format!("observed: {}", row.title), move || {
            let world = world()?;
            let found = runtime()?.block_on(async {
                let found = (row.observe)(&world).await;
                world.clean_up().await;
                found
            });
            Ok(page::compare(row.title, store.name, &found.to_string())?)
        })
    });
    behaviours
        .chain(asked)
        .map(|trial| trial.with_kind(store.name).with_ignored_flag(is_ignored))
        .collect()
}

fn sentence(function: &str) -> String {
    function.replace('_', " ")
}

fn on_a_runtime(world: impl World, check: Check) -> Result<(), Failed> {
    runtime()?.block_on(async {
        check(&world).await;
        world.clean_up().await;
    });
    Ok(())
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
