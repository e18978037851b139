//! The tests that every store of users passes, whatever it keeps them in.
//!
//! A crate with a store includes this module, implements [`place::Place`], and calls [`for_all!`]
//! with a future that makes a place, or `None` where the test must be skipped.

pub(crate) mod accounts;
pub(crate) mod place;
pub(crate) mod sharing;
pub(crate) mod users;

/// A test for each function of the suite.
macro_rules! for_all {
    ($place:expr) => {
        $crate::suite::for_all! {
            $place,
            [
                users::a_user_that_was_added_can_log_in_and_no_other_can,
                users::a_login_with_anything_at_all_is_an_answer_and_not_an_error,
                users::names_are_compared_exactly_but_for_the_spelling_of_one_letter,
                users::users_are_listed_in_the_order_in_which_they_were_added,
                users::a_name_that_is_taken_is_refused_and_the_first_password_stays,
                users::a_deleted_user_is_gone_at_once,
                users::a_user_that_is_not_there_can_be_neither_deleted_nor_changed,
                users::a_changed_password_replaces_the_old_one,
                users::the_credential_version_stays_until_the_password_is_set_or_the_user_made_anew,
                users::a_user_of_the_longest_name_and_password_works,
                users::many_tasks_share_one_store_as_a_trait_object,
                accounts::a_disabled_user_is_refused_and_has_no_sessions_and_others_are_not_touched,
                accounts::an_enabled_user_logs_in_again_and_sessions_from_before_stay_ended,
                accounts::a_user_is_bound_to_one_peer_until_unbound,
                accounts::a_user_whom_another_program_bound_to_what_is_no_peer_is_not_let_in,
                accounts::a_user_that_is_not_there_can_be_neither_disabled_nor_enabled_nor_bound,
                accounts::a_user_made_anew_is_neither_disabled_nor_bound,
                accounts::a_list_tells_when_a_user_was_added_and_how_logins_went,
                accounts::certificates_are_listed_as_they_were_seen_last,
                accounts::no_more_certificates_are_kept_than_ten_thousand,
                accounts::users_are_copied_with_hashes_rights_and_dates_and_their_sessions_go_on,
                accounts::a_user_with_other_rights_is_overwritten_only_when_told_and_else_nobody_is_copied,
                accounts::a_closed_store_refuses_instead_of_hanging,
                sharing::two_stores_that_write_at_the_same_time_both_succeed,
                sharing::what_one_store_changes_another_sees_at_once,
            ]
        }
    };
    ($place:expr, [$($module:ident::$test:ident),* $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(place) = $place.await {
                    crate::suite::$module::$test(place).await;
                }
            }
        )*
    };
}
pub(crate) use for_all;
