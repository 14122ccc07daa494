# A login shell of a session's pod; read by dash too.

# Debian's /etc/profile sets PATH anew: the container's own comes back, in which the image's Python comes first.
af_path=$(sed -zn 's/^PATH=//p' "/proc/$$/environ" | tr -d '\0')
PATH=${af_path:-/opt/venv/bin:$PATH}
export PATH
unset af_path

if [ -n "${BASH_VERSION-}" ] && [ -n "${PS1-}" ]; then
  PS1="${AF_SESSION:-\h}:\w\$ "
  HISTSIZE=10000 HISTFILESIZE=10000
  shopt -s histappend
  # With each command: a pod that goes waits for no shell, and the sessions of a user share the file.
  PROMPT_COMMAND="history -a${PROMPT_COMMAND:+; $PROMPT_COMMAND}"
  alias ls='ls --color=auto' grep='grep --color=auto'
  # Elsewhere a ~/.profile of the distribution's does it, which a home volume does not have.
  if ! [ -e ~/.bash_profile ] && ! [ -e ~/.bash_login ] && ! [ -e ~/.profile ] && [ -r ~/.bashrc ]; then
    . ~/.bashrc
  fi
fi
