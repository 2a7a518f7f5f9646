<#
.SYNOPSIS
    livephase on a Windows instrument PC. UNTESTED: written from the tools' documentation, never run on Windows.

.DESCRIPTION
    Run from a clone of the repository, in an administrator's PowerShell; run again, it updates:

        Set-ExecutionPolicy -Scope Process Bypass
        deploy\windows\install.ps1 -WhatIf          # says what it would do
        deploy\windows\install.ps1 -Task            # starts at log-on, as the user: for drivers that want a desktop
        deploy\windows\install.ps1 -Service         # starts at boot: needs WinSW, see livephase-service.xml

.PARAMETER Prefix
    Where it goes: the virtual environment, the runs (data\) and the service's logs.

.PARAMETER Cuda
    PyTorch's index for an NVIDIA GPU, as cu126.

.PARAMETER Power
    Also sets what lets a PC sleep through a timelapse: stand-by, hibernation, USB selective suspend, PCI Express
    power saving, for the plan in use on mains power.

.PARAMETER ExcludeFromDefender
    Also keeps Windows Defender from reading each shard that is written to the data folder: ask your IT first.

.PARAMETER Uninstall
    Removes program, task and service; data\ stays.
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [string]$Prefix = 'C:\livephase',
    [string]$Cuda = '',
    [switch]$Task,
    [switch]$Service,
    [switch]$Power,
    [switch]$ExcludeFromDefender,
    [switch]$Uninstall
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$source = (Resolve-Path (Join-Path $PSScriptRoot '..\..')).Path
$constraints = Join-Path $source 'deploy\constraints.txt'
$venv = Join-Path $Prefix 'venv'
$data = Join-Path $Prefix 'data'
$wrapper = Join-Path $Prefix 'livephase-service.exe'
$taskName = 'livephase'

function Invoke-Step([string]$What, [scriptblock]$Do) {
    if ($PSCmdlet.ShouldProcess($What)) {
        Write-Host "  $What"
        $global:LASTEXITCODE = 0
        & $Do
        if ($LASTEXITCODE -ne 0) { throw "$What failed ($LASTEXITCODE)" }
    }
}

if ($Uninstall) {
    if (Test-Path $wrapper) {
        # Ends a run in order: minutes.
        Invoke-Step 'stop the service' { & $wrapper stop }
        Invoke-Step 'remove the service' { & $wrapper uninstall }
    }
    if (Get-ScheduledTask -TaskName $taskName -ErrorAction SilentlyContinue) {
        Invoke-Step 'remove the task' { Unregister-ScheduledTask -TaskName $taskName -Confirm:$false }
    }
    if (Test-Path $venv) { Invoke-Step "remove $venv" { Remove-Item -Recurse -Force $venv } }
    Write-Host "The runs and the token stay in $data."
    return
}

Invoke-Step "make $data" { New-Item -ItemType Directory -Force $data, (Join-Path $Prefix 'logs') | Out-Null }
Invoke-Step "virtual environment in $venv" { py -3.11 -m venv $venv }
$python = Join-Path $venv 'Scripts\python.exe'
if ($Cuda) {
    $version = (Select-String -Path $constraints -Pattern '^torch==([0-9.]+)').Matches[0].Groups[1].Value
    Invoke-Step "torch for $Cuda" {
        & $python -m pip install -q -c $constraints "torch==$version+$Cuda" --extra-index-url "https://download.pytorch.org/whl/$Cuda"
    }
} else {
    Invoke-Step 'torch' { & $python -m pip install -q -c $constraints torch }
}
Invoke-Step 'livephase' { & $python -m pip install -q -c $constraints --upgrade $source }

if ($Service) {
    if (-not (Test-Path $wrapper)) { throw "put WinSW-x64.exe there as $wrapper first: see livephase-service.xml" }
    # The account of the service: its data and logs, and nothing else, to write to.
    Invoke-Step 'rights of the service on its folders' {
        icacls $data (Join-Path $Prefix 'logs') /grant '*S-1-5-19:(OI)(CI)M' /Q
    }
    Invoke-Step 'the service' {
        Copy-Item (Join-Path $PSScriptRoot 'livephase-service.xml') (Join-Path $Prefix 'livephase-service.xml')
        & $wrapper install
        & $wrapper start
    }
}

if ($Task) {
    Invoke-Step 'the task at log-on' {
        $run = New-ScheduledTaskAction -Execute (Join-Path $venv 'Scripts\livephase.exe') `
            -Argument "serve --home `"$data`"" -WorkingDirectory $Prefix
        $when = New-ScheduledTaskTrigger -AtLogOn -User "$env:USERDOMAIN\$env:USERNAME"
        # Days without end, on batteries too, and again after a crash: the defaults stop a task after three days.
        $how = New-ScheduledTaskSettingsSet -ExecutionTimeLimit ([TimeSpan]::Zero) -AllowStartIfOnBatteries `
            -DontStopIfGoingOnBatteries -RestartCount 3 -RestartInterval (New-TimeSpan -Minutes 1) `
            -MultipleInstances IgnoreNew -Priority 4
        Register-ScheduledTask -TaskName $taskName -Action $run -Trigger $when -Settings $how -Force | Out-Null
    }
}

if ($Power) {
    Invoke-Step 'no stand-by, no hibernation' {
        powercfg /change standby-timeout-ac 0
        powercfg /change hibernate-timeout-ac 0
        powercfg /change disk-timeout-ac 0
    }
    # USB settings / USB selective suspend: off. A camera that sleeps comes back as a new device.
    Invoke-Step 'no USB selective suspend' {
        powercfg /setacvalueindex SCHEME_CURRENT 2a737441-1930-4402-8d77-b2bebba308a3 48e6b7a6-50f5-4782-a5d4-53bb8f07e226 0
        powercfg /setactive SCHEME_CURRENT
    }
    # PCI Express / link state power management: off. Frame grabbers and NVMe disks wake up late.
    Invoke-Step 'no PCI Express power saving' {
        powercfg /setacvalueindex SCHEME_CURRENT SUB_PCIEXPRESS ASPM 0
        powercfg /setactive SCHEME_CURRENT
    }
}

if ($ExcludeFromDefender) {
    Invoke-Step "Windows Defender leaves $data alone" { Add-MpPreference -ExclusionPath $data }
}

Write-Host "The page: http://127.0.0.1:8770, with the token in $data\token. deploy\README.md goes on from here."
