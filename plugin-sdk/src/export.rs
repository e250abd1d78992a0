//! The way from the gateway's calls to the plugin's traits.

use std::cell::OnceCell;
use std::sync::Once;

use crate::bindings::on_join;
use crate::bindings::validate::types;
use crate::{Admission, Filter, Join, Message, OnJoin, Plugin, Validate, Verdict, log};

/// Makes a component of a plugin: `export!(MyPlugin: validate, filter, on_join);`, once in a crate.
///
/// The component exports the hooks that are named and no others. A hook whose trait is missing does not compile. In a
/// native build the macro only checks the traits, so that `cargo test` needs nothing special.
///
/// ```
/// use arcyou_plugin_sdk::{Filter, Message, NoConfig, Plugin, Verdict};
///
/// struct Shout;
///
/// impl Plugin for Shout {
///     type Config = NoConfig;
///
///     fn new(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
/// }
///
/// impl Filter for Shout {
///     fn filter(&self, message: &Message) -> Verdict {
///         match message.text("text") {
///             Some(text) => message.replace_field("text", &text.to_uppercase()),
///             None => Verdict::accept(),
///         }
///     }
/// }
///
/// arcyou_plugin_sdk::export!(Shout: filter);
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ident : $($hook:ident),+ $(,)?) => {
        const _: () = {
            const fn is_plugin<P: $crate::Plugin>() {}
            is_plugin::<$plugin>();
            $($crate::__check_hook!($hook $plugin);)+
        };

        #[cfg(not(target_arch = "wasm32"))]
        impl $crate::testing::Exported for $plugin {
            fn ask(
                &self,
                hook: &str,
                message: &$crate::Message,
            ) -> ::std::option::Option<$crate::Verdict> {
                match hook {
                    $(::std::stringify!($hook) => $crate::__ask_hook!($hook self message),)+
                    _ => ::std::option::Option::None,
                }
            }
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: $crate::__private::Slot<$plugin> = const { $crate::__private::Slot::new() };
            }

            struct Exported;

            impl $crate::__private::configure::Guest for Exported {
                fn configure(config: ::std::string::String) -> ::std::result::Result<(), ::std::string::String> {
                    PLUGIN.with(|plugin| plugin.configure(&config))
                }
            }
            $crate::__private::configure::export_configure!(Exported with_types_in $crate::__private::configure);
            $($crate::__export_hook!($hook);)+

            // What the gateway shows as the plugin's version.
            const VERSION: &[u8] = ::std::env!("CARGO_PKG_VERSION").as_bytes();
            #[allow(unsafe_code)]
            #[used]
            #[unsafe(link_section = "version")]
            static SECTION: [u8; VERSION.len()] = $crate::__private::array(VERSION);
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __check_hook {
    (validate $plugin:ident) => {
        const fn validates<P: $crate::Validate>() {}
        validates::<$plugin>();
    };
    (filter $plugin:ident) => {
        const fn filters<P: $crate::Filter>() {}
        filters::<$plugin>();
    };
    (on_join $plugin:ident) => {
        const fn is_asked_about_joins<P: $crate::OnJoin>() {}
        is_asked_about_joins::<$plugin>();
    };
    ($hook:ident $plugin:ident) => {
        ::std::compile_error!(::std::concat!(
            "there is no hook named `",
            ::std::stringify!($hook),
            "`: this version has `validate`, `filter` and `on_join`"
        ));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __ask_hook {
    (validate $plugin:ident $message:ident) => {
        ::std::option::Option::Some($crate::Validate::validate($plugin, $message))
    };
    (filter $plugin:ident $message:ident) => {
        ::std::option::Option::Some($crate::Filter::filter($plugin, $message))
    };
    ($hook:ident $plugin:ident $message:ident) => {
        ::std::option::Option::None
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    (validate) => {
        impl $crate::__private::validate::Guest for Exported {
            fn validate(
                message: $crate::__private::validate::types::Message,
            ) -> $crate::__private::validate::types::Judgement {
                PLUGIN.with(|plugin| plugin.validate(message))
            }
        }
        $crate::__private::validate::export_validate!(Exported with_types_in $crate::__private::validate);
    };
    (filter) => {
        impl $crate::__private::filter::Guest for Exported {
            fn filter(
                message: $crate::__private::validate::types::Message,
            ) -> $crate::__private::validate::types::Judgement {
                PLUGIN.with(|plugin| plugin.filter(message))
            }
        }
        $crate::__private::filter::export_filter!(Exported with_types_in $crate::__private::filter);
    };
    (on_join) => {
        impl $crate::__private::on_join::Guest for Exported {
            fn on_join(join: $crate::__private::on_join::Join) -> $crate::__private::on_join::Decision {
                PLUGIN.with(|plugin| plugin.on_join(join))
            }
        }
        $crate::__private::on_join::export_on_join!(Exported with_types_in $crate::__private::on_join);
    };
    ($hook:ident) => {};
}

/// The one plugin value of an instance.
#[doc(hidden)]
#[derive(Debug)]
pub struct Slot<P>(OnceCell<P>);

impl<P: Plugin> Slot<P> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    pub fn configure(&self, config: &str) -> Result<(), String> {
        forward_panics();
        self.0.set(build(config)?).map_err(|_| "already configured".to_owned())
    }

    /// A host that never configured it gets the plugin that an empty configuration makes.
    fn plugin(&self) -> &P {
        self.0.get_or_init(|| {
            forward_panics();
            build("{}")
                .unwrap_or_else(|error| panic!("not configured, and an empty configuration does not do: {error}"))
        })
    }

    pub fn validate(&self, message: types::Message) -> types::Judgement
    where
        P: Validate,
    {
        Verdict::into_judgement(self.plugin().validate(&Message::from_wire(message)))
    }

    pub fn filter(&self, message: types::Message) -> types::Judgement
    where
        P: Filter,
    {
        Verdict::into_judgement(self.plugin().filter(&Message::from_wire(message)))
    }

    pub fn on_join(&self, join: on_join::Join) -> on_join::Decision
    where
        P: OnJoin,
    {
        Admission::into_decision(self.plugin().on_join(&Join::from_wire(join)))
    }
}

/// The bytes of a text, of which the compiler knows how many there are.
#[doc(hidden)]
pub const fn array<const LENGTH: usize>(text: &[u8]) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let mut at = 0;
    while at < LENGTH {
        bytes[at] = text[at];
        at += 1;
    }
    bytes
}

/// A plugin from the text of its configuration.
pub(crate) fn build<P: Plugin>(config: &str) -> Result<P, String> {
    let config: serde_json::Value = serde_json::from_str(config).map_err(|error| format!("config: {error}"))?;
    // By way of a value, whose errors name no line of a JSON text that nobody wrote.
    let config = serde_path_to_error::deserialize(config).map_err(|error| match error.path().iter().next() {
        None => format!("config: {}", error.inner()),
        Some(_) => format!("config.{}: {}", error.path(), error.inner()),
    })?;
    P::new(config)
}

/// A panic ends the instance with a bare trap: its text is lost unless it is sent first.
fn forward_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| log(crate::Level::Error, &panic.to_string()))));
}

#[cfg(test)]
mod tests {
    use crate::testing::try_plugin;
    use crate::{Plugin, Validate, Verdict};
    use serde_json::json;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[allow(dead_code)]
        max: u32,
        #[serde(default)]
        #[allow(dead_code)]
        words: Vec<Word>,
    }

    #[derive(serde::Deserialize)]
    struct Word {
        #[allow(dead_code)]
        text: String,
    }

    struct Rule;

    impl Plugin for Rule {
        type Config = Config;

        fn new(_: Config) -> Result<Self, String> {
            Ok(Self)
        }
    }

    impl Validate for Rule {
        fn validate(&self, _: &crate::Message) -> Verdict {
            Verdict::accept()
        }
    }

    #[test]
    fn a_wrong_value_is_told_by_its_key_and_what_was_expected() {
        let error = |config| try_plugin::<Rule>(config).err().unwrap_or_default();
        assert_eq!(error(json!({"max": "many"})), "config.max: invalid type: string \"many\", expected u32");
        let deep = error(json!({"max": 1, "words": [{"text": "a"}, {"text": 5}]}));
        assert_eq!(deep, "config.words[1].text: invalid type: integer `5`, expected a string");
        assert_eq!(error(json!({})), "config: missing field `max`");
        assert_eq!(error(json!({"max": 1, "min": 1})), "config.min: unknown field `min`, expected `max` or `words`");
        assert!(try_plugin::<Rule>(json!({"max": 1})).is_ok());
    }
}
