"""Whether an endpoint can be asked at all, said in one sentence before anything runs."""

from __future__ import annotations

from tasks.judge.config import LOCAL_COMMAND, EndpointConfig, JudgeConfig, JudgeUnavailable, api_key


def check(config: EndpointConfig, *, timeout: float = 10.0) -> None:
    """See that the rubric exists, the key is set, a server listens and does not refuse the key.

    Asks for the list of models once, which costs nothing. A server without such a list passes.

    Raises:
        JudgeUnavailable: one sentence that names the mend.
        ValueError: the rubric does not exist.
    """
    if isinstance(config, JudgeConfig):
        config.load_rubric()
    key = api_key(config)
    import openai

    from tasks.judge.transport import LeftAddress, left_address
    from tasks.judge.transport import client as open_client

    client = open_client(config, key, timeout)
    try:
        client.models.list()
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        hint = f"set {config.api_key_env} to a valid key" if config.api_key_env else "name its variable as api_key_env"
        raise JudgeUnavailable(f"{config.host} refuses the key (HTTP {error.status_code}): {hint}.") from None
    except (openai.APIConnectionError, LeftAddress) as error:
        if left_address(error):
            raise JudgeUnavailable(
                f"{config.host} redirects to another address, which is not followed: set base_url to the final one."
            ) from None
        if config.preset == "local":
            mend = f"start a server with `{LOCAL_COMMAND}`"
        else:
            mend = f"check base_url and the network, or start `{LOCAL_COMMAND}` and use the preset 'local'"
        raise JudgeUnavailable(f"No judge answers at {config.base_url}: {mend}.") from None
    except (openai.APIStatusError, openai.APIResponseValidationError, ValueError):
        return
    finally:
        client.close()
