"""Another SSH server, which is there already."""
from processes import Failed, run
from ssh import of_command
from targets.base import Target, Unavailable


class Peer(Target):
    name = "peer"
    about = "another SSH server, given by `--peer`"
    kind = "peer"

    def __init__(self, command):
        self.ssh = of_command(command)

    def start(self):
        try:
            run(self.words("true"))
        except Failed as error:
            raise Unavailable(str(error)) from error
